//! Standard output, and what can go wrong with it. Tools write to it only through [`Out`].
//!
//! Rust ignores SIGPIPE, so a write fails once the reader has left. That is [`Error::Closed`], and
//! the tool ends quietly. Any other failure, such as a full disk or `/dev/full`, is the tool's.
//! Nothing is flushed on drop, because errors could not be reported there: call [`Out::flush`].

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

/// How much is buffered before a write, unless output goes to a terminal.
const BUFFER_BYTES: usize = 64 << 10;
/// A pipe that `poll` calls writable takes at least this much.
const PIECE_BYTES: usize = 4096;
/// How long to wait for the reader once the tool was asked to end.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Capacity to ask for a pipe. A larger pipe means fewer context switches.
const PIPE_BYTES: i32 = 1 << 20;

/// Why no more output can be written.
#[derive(Debug)]
pub enum Error {
    /// The reader has left. The tool ends quietly.
    Closed,
    /// The descriptor was closed when the tool started (`>&-`).
    Missing,
    /// The tool was asked to end, and the reader takes no more output.
    Stuck,
    /// The write failed.
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

/// Asks for a pipe capacity of 1 MiB. Has no effect on other files or if the limit is lower.
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

/// Buffered output that reports every error. Flushes each line on a terminal, else every 64 KiB.
pub struct Out {
    target: Target,
    buffer: Vec<u8>,
    by_line: bool,
    /// Whether the descriptor was checked, which the first write does.
    begun: bool,
    /// Whether a write has failed. No more are tried then.
    broken: bool,
    /// Returns whether the tool was asked to end. Writes then wait only briefly.
    ending: fn() -> bool,
    /// Whether escape sequences come from the tool itself and may reach a terminal.
    draws: bool,
}

impl Out {
    /// Returns standard output. It is checked at the first write, so a tool that prints nothing
    /// does not need one.
    pub fn stdout() -> Out {
        Out::new(Target::Stdout(io::stdout()))
    }

    /// Returns output to a file instead.
    pub fn to_file(file: File) -> Out {
        Out::new(Target::File(file))
    }

    fn new(target: Target) -> Out {
        let (by_line, begun, broken, draws) = (false, false, false, false);
        Out { target, buffer: Vec::new(), by_line, begun, broken, ending: || false, draws }
    }

    /// Lets escape sequences through to a terminal from now on, for a tool that draws. Otherwise
    /// they are escaped as in [`show::printable_bytes`].
    pub fn draw(&mut self) {
        self.draws = true;
    }

    /// Sets the function that says whether a caught signal has asked the tool to end.
    pub fn end_when(&mut self, ending: fn() -> bool) {
        self.ending = ending;
    }

    /// Checks that the reader is still there, for a tool that may not write for a long time.
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

    /// Whether a write has failed. No more output is written then.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Appends `bytes` to the buffer, and writes it if it is full.
    ///
    /// # Errors
    /// If the buffer could not be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES && bytes.len() >= BUFFER_BYTES {
            return self.write_raw(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        self.spill()
    }

    /// Writes text for people. Control characters are escaped, in files and pipes too; newlines and
    /// tabs are kept.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        self.put(show::printable_lines(text).as_bytes())
    }

    /// Writes a JSON value and a newline. More control characters are escaped than JSON requires.
    ///
    /// # Errors
    /// As [`Out::put`].
    pub fn json(&mut self, value: &serde_json::Value) -> Result<(), Error> {
        self.put(show::printable_json(&format!("{value}\n")).as_bytes())
    }

    /// Returns the buffer, for an encoder to append to. Call [`Out::spill`] afterwards.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer if it is full, or if output goes to a terminal. Called once per record.
    ///
    /// # Errors
    /// If the buffer could not be written.
    #[inline]
    pub fn spill(&mut self) -> Result<(), Error> {
        if self.begun && !self.by_line && self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        if self.buffer.is_empty() {
            // A tool that has printed nothing may run without stdout.
            return Ok(());
        }
        self.begin()?;
        if self.by_line && self.buffer.contains(&b'\n') || self.buffer.len() >= BUFFER_BYTES {
            return self.flush();
        }
        Ok(())
    }

    /// Writes the buffer, then a large piece directly, without copying it.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn write_raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.flush()?;
        self.write_all(bytes)
    }

    /// Writes the whole buffer.
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
                // Another process that shares the descriptor has made it non-blocking.
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

    /// Returns a piece small enough that a reader with room takes it at once.
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
        // Ignore the result: the write is retried in any case and reports the error.
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
    fn output_keeps_its_order() {
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
    fn small_output_is_buffered_and_large_output_is_written() {
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
    fn a_full_disk_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut out = Out::to_file(full);
        out.put(b"line\n").unwrap();
        let error = out.flush().unwrap_err();
        assert_eq!(error.to_string(), "stdout: cannot write: No space left on device");
        assert!(out.is_broken());
    }

    #[test]
    fn a_reader_that_left_is_error_closed() {
        let (reader, mut out) = pipe();
        drop(reader);
        out.put(b"line\n").unwrap();
        assert!(matches!(out.flush(), Err(Error::Closed)));
        let error = Write::write_all(&mut out, &vec![0; BUFFER_BYTES]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_non_blocking_pipe_is_waited_for() {
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
