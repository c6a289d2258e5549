//! Keys typed on the terminal.

/// The action of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Quit.
    Quit,
    /// Scroll.
    Move(Move),
}

/// How far to scroll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// By lines, positive is down.
    Lines(isize),
    /// By screens, positive is down.
    Pages(isize),
    /// To the first feed.
    Top,
    /// To the last feed.
    Bottom,
}

/// Splits the bytes from a terminal into keys.
#[derive(Default)]
pub struct Keyboard {
    bytes: Vec<u8>,
}

const SEQUENCES: [(&[u8], Move); 12] = [
    (b"\x1b[A", Move::Lines(-1)),
    (b"\x1bOA", Move::Lines(-1)),
    (b"\x1b[B", Move::Lines(1)),
    (b"\x1bOB", Move::Lines(1)),
    (b"\x1b[5~", Move::Pages(-1)),
    (b"\x1b[6~", Move::Pages(1)),
    (b"\x1b[H", Move::Top),
    (b"\x1bOH", Move::Top),
    (b"\x1b[1~", Move::Top),
    (b"\x1b[F", Move::Bottom),
    (b"\x1bOF", Move::Bottom),
    (b"\x1b[4~", Move::Bottom),
];

impl Keyboard {
    /// Adds bytes that were read.
    pub fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next key with an action. The rest of an escape sequence may arrive later.
    pub fn next(&mut self) -> Option<Key> {
        while let Some(&first) = self.bytes.first() {
            let (length, key) = match first {
                b'q' | b'Q' => (1, Some(Key::Quit)),
                b'j' => (1, Some(Key::Move(Move::Lines(1)))),
                b'k' => (1, Some(Key::Move(Move::Lines(-1)))),
                b' ' => (1, Some(Key::Move(Move::Pages(1)))),
                b'b' => (1, Some(Key::Move(Move::Pages(-1)))),
                b'g' => (1, Some(Key::Move(Move::Top))),
                b'G' => (1, Some(Key::Move(Move::Bottom))),
                0x1b => self.sequence()?,
                _ => (1, None),
            };
            self.bytes.drain(..length);
            if key.is_some() {
                return key;
            }
        }
        None
    }

    /// Returns the length and action of the escape sequence at the front, or `None` if it is
    /// incomplete.
    fn sequence(&self) -> Option<(usize, Option<Key>)> {
        let bytes = &self.bytes[..];
        if let Some((sequence, way)) = SEQUENCES.iter().find(|(s, _)| bytes.starts_with(s)) {
            return Some((sequence.len(), Some(Key::Move(*way))));
        }
        match bytes.get(1) {
            None => None,
            Some(b'O') => bytes.get(2).map(|_| (3, None)),
            Some(b'[') => {
                let end = bytes[2..].iter().position(|b| (0x40..=0x7e).contains(b))?;
                Some((end + 3, None))
            }
            Some(_) => Some((1, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pieces: &[&[u8]]) -> Vec<Key> {
        let mut keyboard = Keyboard::default();
        let mut keys = Vec::new();
        for piece in pieces {
            keyboard.take(piece);
            keys.extend(std::iter::from_fn(|| keyboard.next()));
        }
        keys
    }

    #[test]
    fn keys_and_sequences_become_actions() {
        let moves = |moves: &[Move]| moves.iter().map(|m| Key::Move(*m)).collect::<Vec<_>>();
        use Move::{Bottom, Lines, Pages, Top};
        assert_eq!(typed(&[b"q"]), [Key::Quit]);
        assert_eq!(
            typed(&[b"jk bgG"]),
            moves(&[Lines(1), Lines(-1), Pages(1), Pages(-1), Top, Bottom])
        );
        assert_eq!(
            typed(&[b"\x1b[A\x1bOB\x1b[6~\x1b[5~\x1b[H\x1b[4~"]),
            moves(&[Lines(-1), Lines(1), Pages(1), Pages(-1), Top, Bottom])
        );
    }

    #[test]
    fn unknown_keys_and_sequences_are_skipped_whole() {
        // F5, a mouse report, a `q` that ends a sequence, a lone escape.
        assert_eq!(typed(&[b"xyz\x1b[15~\x1b[<0;1;1M\x1bOqj"]), [Key::Move(Move::Lines(1))]);
        assert_eq!(typed(&[b"\x1b", b"q"]), [Key::Quit]);
    }

    #[test]
    fn sequences_may_arrive_in_pieces() {
        assert_eq!(typed(&[b"\x1b", b"[", b"6", b"~q"]), [Key::Move(Move::Pages(1)), Key::Quit]);
    }
}
