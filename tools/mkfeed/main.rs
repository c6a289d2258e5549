//! dw-mkfeed.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepwater_tools::cli::exit::main_with("dw-mkfeed", deepwater_tools::mkfeed::run::run)
}
