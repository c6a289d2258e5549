//! What is read: stdin or a file, and what kind of thing it is.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, ensure};

use deepwater::text::input::LONGEST_LINE_BYTES;
use deepwater::text::reject::REJECT_TEXT_BYTES;

use crate::cli::out;

/// A read this long is asked for; a line that is longer makes the buffer grow.
const BUFFER_BYTES: usize = 256 << 10;

/// An input, with the bytes that were read and not yet taken.
pub struct Input {
    file: File,
    /// For messages: the path, or `stdin`.
    pub name: String,
    /// Whether it is a regular file: all of it is there, and it can be read again.
    pub regular: bool,
    /// Size, where known.
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
    /// A file that does not open, a folder, a stdin that is closed.
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

    /// The descriptor, for signals to interrupt.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// What was read and not yet taken, and whether nothing follows it.
    pub fn pending(&self) -> (&[u8], bool) {
        (&self.buffer[self.start..self.end], self.ended)
    }

    /// Takes the first `n` pending bytes.
    pub fn take(&mut self, n: usize) {
        self.start += n;
    }

    /// Reads once: whatever has arrived, waiting only for the first byte.
    ///
    /// # Errors
    /// As the system says. An interrupted read is none: it read nothing.
    pub fn read(&mut self) -> anyhow::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            // A parser takes a line that fills all of this.
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

/// The lines of what a parser took, for rows that are refused after they were parsed. They are
/// asked for in order, and each byte is looked at once.
pub struct Lines<'a> {
    rest: &'a [u8],
    /// The number of the line at the front of `rest`.
    line: u64,
    /// Raw records have no newlines.
    record_size: Option<usize>,
}

impl<'a> Lines<'a> {
    /// The lines of `taken`, the first being number `line`.
    pub fn new(taken: &'a [u8], line: u64, record_size: Option<usize>) -> Lines<'a> {
        let rest = match record_size {
            None if line == 1 => taken.strip_prefix(b"\xef\xbb\xbf").unwrap_or(taken),
            _ => taken,
        };
        Lines { rest, line, record_size }
    }

    /// A line without its end; of raw input, a record. At most as much of it as other rejects
    /// show.
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

    /// The length of the first line of `rest`, its end included.
    fn length(&self) -> usize {
        let newline = || self.rest.iter().position(|&b| b == b'\n');
        self.record_size.unwrap_or_else(|| newline().map_or(self.rest.len(), |at| at + 1))
    }
}
