//! A terminal that a program draws on: its size, and single keys without echo.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use nix::sys::termios::{tcgetattr, tcsetattr};

/// Returns the columns and rows of the terminal, or `None` if it does not report them.
pub fn size(terminal: BorrowedFd<'_>) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call fills the struct that it is given, which outlives it; the descriptor is
    // open.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0 && size.ws_row > 0)
        .then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// A terminal that delivers single keys without echo, until [`Keys::restore`]. Ctrl-C still sends a
/// signal. Ctrl-Z and Ctrl-\ do nothing, because they would leave the terminal in this mode.
pub struct Keys {
    terminal: OwnedFd,
    before: Termios,
}

impl Keys {
    /// Changes the terminal's modes.
    ///
    /// # Errors
    /// The system's error if it is not a terminal.
    pub fn take(terminal: BorrowedFd<'_>) -> io::Result<Keys> {
        // Duplicate the descriptor, because the caller may close and reuse it before `restore`.
        let terminal = terminal.try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut modes = before.clone();
        modes.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        for key in [SpecialCharacterIndices::VSUSP, SpecialCharacterIndices::VQUIT] {
            modes.control_chars[key as usize] = libc::_POSIX_VDISABLE;
        }
        modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&terminal, SetArg::TCSADRAIN, &modes)?;
        Ok(Keys { terminal, before })
    }

    /// Restores the modes. Drops keys not yet read, since they were not meant for the next program.
    /// Ignores errors, since the terminal may be gone.
    pub fn restore(self) {
        let _ = tcsetattr(self.terminal.as_fd(), SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use nix::pty::openpty;

    use super::*;

    #[test]
    fn a_terminal_is_as_it_was_afterwards() {
        let pty = openpty(
            Some(&libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }),
            None,
        )
        .unwrap();
        assert_eq!(size(pty.slave.as_fd()), Some((80, 24)));
        let before = tcgetattr(&pty.slave).unwrap();
        let keys = Keys::take(pty.slave.as_fd()).unwrap();
        let during = tcgetattr(&pty.slave).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        assert!(!during.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO));
        keys.restore();
        assert_eq!(tcgetattr(&pty.slave).unwrap(), before);
        let none = File::open("/dev/null").unwrap();
        assert!(Keys::take(none.as_fd()).is_err());
        assert_eq!(size(none.as_fd()), None);
    }
}
