//! What was typed.

/// What a key means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Leave.
    Quit,
    /// Scroll.
    Move(Move),
}

/// How far to scroll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Lines, down or up.
    Lines(isize),
    /// Screens, down or up.
    Pages(isize),
    /// To the first.
    Top,
    /// To the last.
    Bottom,
}

/// Bytes from a terminal, taken apart into keys.
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
    /// Adds what was read.
    pub fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next key that means something; the rest of a sequence may come later.
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

    /// Length and meaning of the escape sequence that comes next; `None` if its end has not come.
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
    fn keys_and_sequences() {
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
    fn what_means_nothing_is_passed_over_whole() {
        // F5, a mouse's report, a q that is the end of a sequence, a lone escape.
        assert_eq!(typed(&[b"xyz\x1b[15~\x1b[<0;1;1M\x1bOqj"]), [Key::Move(Move::Lines(1))]);
        assert_eq!(typed(&[b"\x1b", b"q"]), [Key::Quit]);
    }

    #[test]
    fn a_sequence_may_come_in_pieces() {
        assert_eq!(typed(&[b"\x1b", b"[", b"6", b"~q"]), [Key::Move(Move::Pages(1)), Key::Quit]);
    }
}
