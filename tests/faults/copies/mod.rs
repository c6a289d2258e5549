//! Hot copies: a store is copied file by file, in any order, while it is written and collected.
//! Then the copy is opened in another place, or put back over the store, and read, written,
//! collected and repaired. Nothing is shown that was not written, what a file of the copy still
//! holds is printed, in quarantine, or named with a failure, no seq is used twice, and after a
//! repair all is well.
//!
//! `DEEPWATER_COPIES` says how many copies, `DEEPWATER_COPIES_SEED` which; `DEEPWATER_COPIES_ONLY`
//! makes one of them alone; `DEEPWATER_COPIES_ALL` goes on after what is wrong, and tells at the
//! end how often each kind came.

mod hot;
mod judge;

use deepwater::os::faults::pretend_boot;

use crate::cases::{Case, Generator, Wrong, run};

const COPIES: Generator = Generator {
    name: "hot copies",
    count: "DEEPWATER_COPIES",
    default_count: 200,
    seed: "DEEPWATER_COPIES_SEED",
    default_seed: 20_261_127,
    only: "DEEPWATER_COPIES_ONLY",
    all: "DEEPWATER_COPIES_ALL",
    per_store: 10,
};

#[test]
fn hot_copies_never_cost_a_record_nor_invent_one() {
    run(&COPIES, |case: Case<'_>| -> Option<Wrong<'_>> {
        let wrong = judge::run(case.history, case.random, case.place);
        pretend_boot(None);
        wrong.map(|(kind, how)| -> Wrong<'_> { (kind, Box::new(|| how)) })
    });
}
