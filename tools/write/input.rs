//! dw-write's inputs: stdin or a file, read as the data arrives.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, ensure};

use deepwater::text::input::LONGEST_LINE_BYTES;
use deepwater::text::reject::REJECT_TEXT_BYTES;

use crate::cli::out;

/// Size of a read. The buffer grows for a longer line.
const BUFFER_BYTES: usize = 256 << 10;

/// An input, with the bytes that were read but not parsed yet.
pub struct Input {
    file: File,
    /// The path or `stdin`, for messages.
    pub name: String,
    /// Whether it is a regular file, which is complete and can be read again.
    pub regular: bool,
    /// The size, if known.
    pub size_bytes: Option<u64>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Input {
    /// Opens `path`; `-` is stdin.
    ///
    /// # Errors
    /// If the file cannot be opened or is a directory, or if stdin is closed.
    pub fn open(path: &Path) -> anyhow::Result<Input> {
        let (file, name) = if path == Path::new("-") {
            ensure!(!out::stdin_is_missing(), "stdin is closed; there is nothing to read");
            let stdin: OwnedFd =
                io::stdin().as_fd().try_clone_to_owned().context("cannot use stdin")?;
            (File::from(stdin), "stdin".to_owned())
        } else {
            let name = path.display().to_string();
            (File::open(path).with_context(|| format!("cannot open {name}"))?, name)
        };
        let meta = file.metadata().with_context(|| format!("cannot stat {name}"))?;
        let kind: FileType = meta.file_type();
        ensure!(!kind.is_dir(), "{name} is a folder; name files, or pipe them in");
        if kind.is_fifo() {
            out::enlarge_pipe(file.as_fd());
        }
        Ok(Input {
            file,
            name,
            regular: kind.is_file(),
            size_bytes: kind.is_file().then_some(meta.len()),
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            ended: false,
        })
    }

    /// Returns the descriptor, for a signal to interrupt.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Returns the bytes that were read but not taken, and whether the input ends after them.
    pub fn pending(&self) -> (&[u8], bool) {
        (&self.buffer[self.start..self.end], self.ended)
    }

    /// Marks the first `n` pending bytes as taken.
    pub fn take(&mut self, n: usize) {
        self.start += n;
    }

    /// Reads once. Waits for the first byte only, and takes whatever has arrived.
    ///
    /// # Errors
    /// If the system reports one. An interrupted read is not an error: it returns 0.
    pub fn read(&mut self) -> anyhow::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            // A line that fills the whole buffer must still be taken by the parser.
            let most = LONGEST_LINE_BYTES;
            ensure!(self.end < most, "{}: {most} bytes and no row's end", self.name);
            self.buffer.resize((self.buffer.len() * 2).min(most), 0);
        }
        match self.file.read(&mut self.buffer[self.end..]) {
            Ok(n) => {
                self.ended = n == 0;
                self.end += n;
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", self.name)),
        }
    }

    /// Whether the input has ended.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

/// The lines of a parsed piece of input, for rows that are rejected after they were parsed. Lines
/// must be requested in ascending order, so that each byte is scanned once.
pub struct Lines<'a> {
    rest: &'a [u8],
    /// The number of the first line in `rest`.
    line: u64,
    /// Set for raw records, which have no newlines.
    record_size: Option<usize>,
}

impl<'a> Lines<'a> {
    /// Creates it for `taken`, whose first line has the number `line`.
    pub fn new(taken: &'a [u8], line: u64, record_size: Option<usize>) -> Lines<'a> {
        let rest = match record_size {
            None if line == 1 => taken.strip_prefix(b"\xef\xbb\xbf").unwrap_or(taken),
            _ => taken,
        };
        Lines { rest, line, record_size }
    }

    /// Returns a line without its newline, or a raw record. It is cut to the length that other
    /// rejects show.
    pub fn text(&mut self, line: u64) -> &'a [u8] {
        while self.line < line && !self.rest.is_empty() {
            self.rest = &self.rest[self.length().min(self.rest.len())..];
            self.line += 1;
        }
        let text = &self.rest[..self.length().min(self.rest.len())];
        let text = match self.record_size {
            Some(_) => text,
            None => {
                let text = text.strip_suffix(b"\n").unwrap_or(text);
                text.strip_suffix(b"\r").unwrap_or(text)
            }
        };
        &text[..text.len().min(REJECT_TEXT_BYTES)]
    }

    /// Returns the length of the first line of `rest`, including its newline.
    fn length(&self) -> usize {
        let newline = || self.rest.iter().position(|&b| b == b'\n');
        self.record_size.unwrap_or_else(|| newline().map_or(self.rest.len(), |at| at + 1))
    }
}
