//! `dw-ls --watch`: shows the feeds on a terminal, refreshed every second.

mod keys;
mod screen;
mod table;

use std::io::{IsTerminal as _, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use deepwater::Platform;
use deepwater::os::signal::{Terminator, reraise};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::keys::{Key, Keyboard};
use self::screen::Screen;
use self::table::Table;
use crate::cli::exit::Exit;
use crate::cli::out::Out;

const REFRESH: Duration = Duration::from_secs(1);
/// How soon a resized window is noticed. No signal interrupts the wait for that.
const LOOK: Duration = Duration::from_millis(200);

/// Shows the named feeds, or all, until `q` or a signal.
///
/// # Errors
/// If stdout is not a terminal that can be drawn on, or if the store is gone.
pub fn watch(platform: &Platform, asked: &[&str], out: &mut Out) -> anyhow::Result<Exit> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    anyhow::ensure!(
        out.is_terminal() && !dumb,
        "--watch draws on a terminal, and stdout is {}; dw-ls --json is for programs",
        if dumb && out.is_terminal() { "a dumb one (see $TERM)" } else { "none" }
    );
    let terminator = Terminator::install()?;
    let stdin = std::io::stdin();
    let input = stdin.is_terminal().then(|| stdin.as_fd());
    let mut table = Table::new(platform, asked);
    table.refresh()?;
    let mut screen = Screen::open(out, input)?;
    if let Some(input) = input {
        // A signal makes the descriptor readable, at end of input.
        terminator.watch(input.as_raw_fd());
    }
    let ended = show(&mut screen, &mut table, input, &terminator);
    drop(screen);
    match ended? {
        Ended::ByKey => Ok(Exit::Ok),
        Ended::BySignal(number) => reraise(number),
    }
}

enum Ended {
    ByKey,
    BySignal(i32),
}

fn show(
    screen: &mut Screen<'_>,
    table: &mut Table<'_>,
    input: Option<BorrowedFd<'_>>,
    terminator: &Terminator,
) -> anyhow::Result<Ended> {
    let mut keyboard = Keyboard::default();
    let mut refreshed = Instant::now();
    loop {
        screen.fit();
        let (columns, rows) = screen.size();
        screen.draw(&table.lines(columns, rows))?;
        let left = REFRESH.saturating_sub(refreshed.elapsed());
        let news = wait(input, left.min(LOOK));
        if let Some(number) = terminator.caught() {
            return Ok(Ended::BySignal(number));
        }
        if news && !keyboard.read() {
            // Either the terminal is gone and SIGHUP follows, or only stdin is gone and the view
            // continues.
            std::thread::sleep(LOOK);
        }
        while let Some(key) = keyboard.next() {
            match key {
                Key::Quit => return Ok(Ended::ByKey),
                Key::Move(by) => table.scroll(by, rows),
            }
        }
        if refreshed.elapsed() >= REFRESH {
            table.refresh()?;
            refreshed = Instant::now();
        }
    }
}

/// Waits for a key, a signal or the timeout. Returns whether there is something to read.
fn wait(input: Option<BorrowedFd<'_>>, time: Duration) -> bool {
    let mut fds: Vec<PollFd<'_>> =
        input.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
    matches!(poll(&mut fds, timeout), Ok(1..))
}

impl Keyboard {
    /// Reads what was typed. Returns false at end of input.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 64];
        match std::io::stdin().lock().read(&mut bytes) {
            Ok(0) => false,
            Ok(n) => {
                self.take(&bytes[..n]);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }
}
