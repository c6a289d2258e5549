//! What is read: stdin or a file, and what kind of thing it is.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, ensure};

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
            self.buffer.resize(self.buffer.len() * 2, 0);
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
