//! Segments in shared memory that no feed needs any more.

use crate::error::Result;
use crate::gc::Step;
use crate::store::Platform;

/// The segments to sweep: adopted, closed, or of another boot; never data that no disk has yet.
///
/// No feed of this version has any, so there are none.
pub(super) fn plan(_platform: &Platform) -> Result<Vec<Step>> {
    Ok(Vec::new())
}
