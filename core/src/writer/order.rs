//! Applies a feed's `order` to late records.

use crate::layout::Layout;
use crate::schema::Order;

/// The result of [`put_in_order`].
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Positions in the batch of rejected records.
    pub rejected: Vec<usize>,
    /// Positions of marked records among those kept.
    pub marks: Vec<usize>,
    /// Number of late records.
    pub late: u64,
}

/// Applies `order: reject` or `order: clamp` to a batch. Copies the records to keep into `kept`,
/// which is cleared first. `newest` is the newest time before the batch; `marks` are positions in
/// the batch.
pub(super) fn put_in_order(
    layout: &Layout,
    order: Order,
    mut newest: u64,
    records: &[u8],
    marks: &[usize],
    kept: &mut Vec<u8>,
) -> Sorted {
    let (record_size, time_offset) = (layout.record_size(), layout.time_field().offset);
    let mut sorted = Sorted::default();
    let mut marks = marks.iter().copied().peekable();
    kept.clear();
    for (i, record) in records.chunks_exact(record_size).enumerate() {
        let marked = marks.next_if_eq(&i).is_some();
        let time = layout.time_of(record);
        if time < newest {
            sorted.late += 1;
            if order == Order::Reject {
                sorted.rejected.push(i);
                continue;
            }
        }
        if marked {
            sorted.marks.push(kept.len() / record_size);
        }
        kept.extend_from_slice(record);
        newest = newest.max(time);
        let at = kept.len() - record_size + time_offset;
        kept[at..at + 8].copy_from_slice(&newest.to_le_bytes());
    }
    sorted
}
