//! The seam through which tests inject faults: named steps at which a process can be stopped or
//! killed. Without the feature `faults` a step is nothing at all.

/// A step of a protocol, named `part.what` once in the source. With the feature `faults`,
/// `$DEEPWATER_FAULTS` says what happens at which steps: a list of `pause=NAME[:N]` and
/// `kill=NAME[:N]` separated by commas, where N is the how manieth time (1 if not given). A paused
/// process makes the file `NAME.reached` in the folder `$DEEPWATER_FAULTS_DIR` and waits until
/// there is a file `NAME.go`.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn step(_name: &'static str) {}

#[cfg(feature = "faults")]
pub use injected::step;

#[cfg(feature = "faults")]
mod injected {
    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex};
    use std::time::Duration;

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Pause,
        Kill,
    }

    struct Fault {
        action: Action,
        name: String,
        nth: u64,
    }

    static FAULTS: LazyLock<Vec<Fault>> = LazyLock::new(|| {
        let text = std::env::var("DEEPWATER_FAULTS").unwrap_or_default();
        text.split(',').filter(|item| !item.is_empty()).map(parse).collect()
    });
    static COUNTS: LazyLock<Mutex<HashMap<&'static str, u64>>> = LazyLock::new(Mutex::default);

    fn parse(item: &str) -> Fault {
        let (action, rest) = item.split_once('=').unwrap_or((item, ""));
        let (name, nth) = rest.split_once(':').unwrap_or((rest, "1"));
        let action = match action {
            "pause" => Action::Pause,
            "kill" => Action::Kill,
            other => panic!("DEEPWATER_FAULTS: {other:?} is no action"),
        };
        let nth = nth.parse().unwrap_or_else(|_| panic!("DEEPWATER_FAULTS: {nth:?} is no number"));
        Fault { action, name: name.to_owned(), nth }
    }

    /// See above.
    pub fn step(name: &'static str) {
        if FAULTS.is_empty() {
            return;
        }
        let count = {
            let mut counts = COUNTS.lock().unwrap_or_else(|e| e.into_inner());
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            *count
        };
        for fault in FAULTS.iter().filter(|f| f.name == name && f.nth == count) {
            match fault.action {
                Action::Kill => {
                    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
                }
                Action::Pause => pause(name),
            }
        }
    }

    fn pause(name: &str) {
        let folder = PathBuf::from(std::env::var_os("DEEPWATER_FAULTS_DIR").unwrap_or_default());
        let _ = std::fs::write(folder.join(format!("{name}.reached")), "");
        while !folder.join(format!("{name}.go")).exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
