//! dw-write.

use std::process::ExitCode;

fn main() -> ExitCode {
    deepwater_tools::cli::exit::main_with("dw-write", deepwater_tools::write::run::run)
}
