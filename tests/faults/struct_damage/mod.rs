//! Damage along the structure of the files, and readers, writers, dw-gc and dw-repair in every
//! order after it. Whatever they do: nothing is shown that was not written, what a file still holds
//! is printed or kept, or the run says that something is wrong, and no seq is used twice.
//!
//! It runs where `DEEPWATER_DAMAGE_CASES` says how many cases; `DEEPWATER_SEED` says which, and
//! `DEEPWATER_ONLY` runs one of them alone; `DEEPWATER_DAMAGE_ALL` goes on after what is wrong, and
//! tells at the end how often each kind came.

mod damage;
mod fields;
pub mod history;
pub mod image;
mod judge;
pub mod model;
pub mod steps;

use crate::cases::{self, Generator, Wrong, run};
use judge::Case;

const DAMAGE: Generator = Generator {
    name: "structure-aware damage",
    count: "DEEPWATER_DAMAGE_CASES",
    default_count: 1000,
    seed: "DEEPWATER_SEED",
    default_seed: 20_260_801,
    only: "DEEPWATER_ONLY",
    all: "DEEPWATER_DAMAGE_ALL",
    per_store: 50,
};

#[test]
fn structure_aware_damage_never_costs_a_record() {
    run(&DAMAGE, |cases::Case { history, mut random, place }| -> Option<Wrong<'_>> {
        let case = Case::choose(history, &mut random);
        judge::run(history, &case, place).map(|(kind, how)| -> Wrong<'_> {
            let words = move || {
                let small = judge::smaller(history, &case, kind, place);
                format!(
                    "{how}\n  damage: {:?}\n  steps: {:?}\n  enough: {:?}",
                    case.damage, case.steps, small.steps
                )
            };
            (kind, Box::new(words))
        })
    });
}
