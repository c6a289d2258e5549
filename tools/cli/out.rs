//! Standard output: a tool's only way to it, and what can be wrong with it.
//!
//! Rust ignores SIGPIPE, so a reader that has left is an error of the write: [`Error::Closed`],
//! which ends the tool quietly. Any other failure (a full disk, `/dev/full`) is the tool's.
//! Nothing is flushed on drop, where errors cannot be told: who writes calls [`Out::flush`].

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use deepwater::error::system_text;
use deepwater::os::process;
use deepwater::show;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What is gathered before a write, where output is no terminal.
const BUFFER_BYTES: usize = 64 << 10;
/// A pipe that is said to have room has it for so much.
const PIECE_BYTES: usize = 4096;
/// How long a reader may take to make room once we are asked to end.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// What a pipe is asked to hold: fewer switches between us and the reader.
const PIPE_BYTES: i32 = 1 << 20;

/// Why nothing more can be written.
#[derive(Debug)]
pub enum Error {
    /// The reader has left: no failure, the tool ends quietly.
    Closed,
    /// The descriptor was closed when the tool started (`>&-`).
    Missing,
    /// The tool was asked to end, and the reader takes nothing.
    Stuck,
    /// The system refused the write.
    Failed(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed => f.write_str("stdout: its reader has left"),
            Error::Missing => {
                f.write_str("stdout: closed when the tool started; give it somewhere to write")
            }
            Error::Stuck => f.write_str("stdout: its reader takes nothing"),
            Error::Failed(e) => write!(f, "stdout: cannot write: {}", system_text(e)),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::Closed => io::ErrorKind::BrokenPipe,
            Error::Missing => io::ErrorKind::NotConnected,
            Error::Stuck => io::ErrorKind::TimedOut,
            Error::Failed(e) => e.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// Whether stdin was closed when the program started (`<&-`).
pub fn stdin_is_missing() -> bool {
    process::was_closed(0)
}

/// Asks for a pipe of 1 MiB; what is no pipe, or may not grow, stays as it is.
pub fn enlarge_pipe(fd: BorrowedFd<'_>) {
    let _ = fcntl(fd, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
}

enum Target {
    Stdout(io::Stdout),
    File(File),
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Target::Stdout(out) => out.as_fd(),
            Target::File(file) => file.as_fd(),
        }
    }
}

/// Buffered output that tells every error: by line on a terminal, 64 KiB at a time otherwise.
pub struct Out {
    target: Target,
    buffer: Vec<u8>,
    by_line: bool,
    /// Whether the first write has looked at the descriptor.
    begun: bool,
    /// After an error nothing more is tried.
    broken: bool,
    /// Whether the tool was asked to end: then nothing waits for long.
    ending: fn() -> bool,
    /// Whether escape sequences are the tool's own, and go to a terminal as they are.
    draws: bool,
}

impl Out {
    /// Standard output. Nothing is checked before the first write, so that a tool with nothing
    /// to print needs none.
    pub fn stdout() -> Out {
        Out::new(Target::Stdout(io::stdout()))
    }

    /// A file in place of standard output.
    pub fn to_file(file: File) -> Out {
        Out::new(Target::File(file))
    }

    fn new(target: Target) -> Out {
        let (by_line, begun, broken, draws) = (false, false, false, false);
        Out { target, buffer: Vec::new(), by_line, begun, broken, ending: || false, draws }
    }

    /// Lets escape sequences through to a terminal from now on, for a tool that draws. Otherwise
    /// what reaches a terminal has none: see [`show::printable_bytes`].
    pub fn draw(&mut self) {
        self.draws = true;
    }

    /// Says how to know that the tool was asked to end, by a signal that it has caught.
    pub fn end_when(&mut self, ending: fn() -> bool) {
        self.ending = ending;
    }

    /// Whether there is anybody to write to, for a tool that may have nothing to write for long.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Closed`] once the reader has left.
    pub fn check(&mut self) -> Result<(), Error> {
        self.begin()?;
        let mut fds = [PollFd::new(self.target.as_fd(), PollFlags::empty())];
        let left = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let polled = poll(&mut fds, PollTimeout::ZERO);
        match polled.is_ok_and(|n| n > 0) && fds[0].revents().is_some_and(|r| r.intersects(left)) {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// Whether output goes to a terminal.
    pub fn is_terminal(&self) -> bool {
        self.target.as_fd().is_terminal()
    }

    /// Whether a write has failed; nothing more will come out.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes `bytes`, sooner or later.
    ///
    /// # Errors
    /// If what was gathered could not be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES && bytes.len() >= BUFFER_BYTES {
            return self.write_raw(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        self.spill()
    }

    /// Writes text for a person, its control characters escaped also where it goes to a file or a
    /// pipe; line breaks and tabs stay.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        self.put(show::printable_lines(text).as_bytes())
    }

    /// Writes a JSON value and a line break; control characters are escaped beyond what JSON asks.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn json(&mut self, value: &serde_json::Value) -> Result<(), Error> {
        self.put(show::printable_json(&format!("{value}\n")).as_bytes())
    }

    /// The gathered bytes, for an encoder to append to; [`Out::spill`] follows.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes what is gathered if it is much, or a line for a terminal. Called once a record.
    ///
    /// # Errors
    /// If it could not be written.
    #[inline]
    pub fn spill(&mut self) -> Result<(), Error> {
        if self.begun && !self.by_line && self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        if self.buffer.is_empty() {
            // Who has printed nothing yet may have no stdout.
            return Ok(());
        }
        self.begin()?;
        if self.by_line && self.buffer.contains(&b'\n') || self.buffer.len() >= BUFFER_BYTES {
            return self.flush();
        }
        Ok(())
    }

    /// Writes a large piece as it is, after what was gathered before it; it is not copied.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn write_raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.flush()?;
        self.write_all(bytes)
    }

    /// Writes everything gathered.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        let mut gathered = std::mem::take(&mut self.buffer);
        let written = self.write_all(&gathered);
        gathered.clear();
        self.buffer = gathered;
        written
    }

    fn begin(&mut self) -> Result<(), Error> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        if matches!(self.target, Target::Stdout(_)) && process::was_closed(1) {
            self.broken = true;
            return Err(Error::Missing);
        }
        self.by_line = self.is_terminal();
        enlarge_pipe(self.target.as_fd());
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.begin()?;
        if self.by_line && !self.draws {
            return self.write_bytes(&show::printable_bytes(bytes));
        }
        self.write_bytes(bytes)
    }

    fn write_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let piece = match (self.ending)() {
                true => self.last_piece(bytes)?,
                false => bytes,
            };
            match nix::unistd::write(self.target.as_fd(), piece) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EINTR) => {}
                // Whoever shares the descriptor has made it non-blocking.
                Err(Errno::EAGAIN) => self.wait_for_room(),
                Err(errno) => {
                    self.broken = true;
                    return Err(match errno {
                        Errno::EPIPE => Error::Closed,
                        _ => Error::Failed(errno.into()),
                    });
                }
            }
        }
        Ok(())
    }

    /// So much that a reader who has room takes it at once.
    fn last_piece<'b>(&self, bytes: &'b [u8]) -> Result<&'b [u8], Error> {
        let mut fds = [PollFd::new(self.target.as_fd(), PollFlags::POLLOUT)];
        let deadline = Instant::now() + LAST_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut fds, timeout) {
                Ok(0) => return Err(Error::Stuck),
                Err(Errno::EINTR) => {}
                _ => return Ok(&bytes[..bytes.len().min(PIECE_BYTES)]),
            }
        }
    }

    fn wait_for_room(&self) {
        let mut fds = [PollFd::new(self.target.as_fd(), PollFlags::POLLOUT)];
        // Interrupted or not, the write is tried again and has the last word.
        let _ = poll(&mut fds, PollTimeout::NONE);
    }
}

impl AsFd for Out {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.target.as_fd()
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(Out::flush(self)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;
    use std::thread;

    use nix::fcntl::OFlag;

    use super::*;

    fn pipe() -> (File, Out) {
        let (reader, writer) = io::pipe().unwrap();
        let file = |fd: std::os::fd::OwnedFd| File::from(fd);
        (file(reader.into()), Out::to_file(file(writer.into())))
    }

    #[test]
    fn bytes_come_out_in_order() {
        let (mut reader, mut out) = pipe();
        let large = vec![b'x'; 3 * BUFFER_BYTES];
        let expected = [b"one\n".as_slice(), &large, b"two\n", b"three", &large[..9]].concat();
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        out.put(b"one\n").unwrap();
        out.write_raw(&large).unwrap();
        out.put(b"two\n").unwrap();
        out.buffer().extend_from_slice(b"three");
        out.spill().unwrap();
        out.put(&large[..9]).unwrap();
        out.flush().unwrap();
        drop(out);
        assert_eq!(thread.join().unwrap(), expected);
    }

    #[test]
    fn little_is_gathered_and_much_is_written() {
        let (mut reader, mut out) = pipe();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut piece = vec![0; 2 * BUFFER_BYTES];
        out.put(&vec![b'x'; BUFFER_BYTES - 1]).unwrap();
        let error = reader.read(&mut piece).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        out.put(b"y").unwrap();
        assert_eq!(reader.read(&mut piece).unwrap(), BUFFER_BYTES);
    }

    #[test]
    fn a_full_disk_is_told() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut out = Out::to_file(full);
        out.put(b"line\n").unwrap();
        let error = out.flush().unwrap_err();
        assert_eq!(error.to_string(), "stdout: cannot write: No space left on device");
        assert!(out.is_broken());
    }

    #[test]
    fn a_reader_that_left_is_closed() {
        let (reader, mut out) = pipe();
        drop(reader);
        out.put(b"line\n").unwrap();
        assert!(matches!(out.flush(), Err(Error::Closed)));
        let error = Write::write_all(&mut out, &vec![0; BUFFER_BYTES]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for() {
        let (mut reader, mut out) = pipe();
        fcntl(&out, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            thread::sleep(std::time::Duration::from_millis(20));
            reader.read_to_end(&mut all).unwrap();
            all.len()
        });
        out.write_raw(&vec![7; 4 << 20]).unwrap();
        drop(out);
        assert_eq!(thread.join().unwrap(), 4 << 20);
    }
}
