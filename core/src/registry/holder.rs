//! Who writes a feed. The lock says so; but a lock file can be removed, or moved, under the process
//! that holds it, and then another lock can be taken. So the live page is asked too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result, sound};
use crate::os::lock::Lock;
use crate::os::process;
use crate::registry::feed::{Entry, FeedRegistry, Identity};
use crate::registry::info::FeedInfo;
use crate::registry::live::LivePage;
use crate::registry::view::LiveView;

/// Where a feed's files lie, for whoever takes its lock.
pub struct Lockable<'a> {
    /// The feed's name.
    pub name: &'a str,
    /// Store, feed and layout.
    pub id: &'a Identity,
    /// `BASE/feeds/NAME`.
    pub folder: PathBuf,
    /// Its lock.
    pub lock: &'a Path,
    /// Its spec, where that can be read: without it the page in shared memory is not found.
    pub info: Option<&'a FeedInfo>,
}

impl<'a> Lockable<'a> {
    /// A feed whose spec was read.
    pub fn of(info: &'a FeedInfo) -> Lockable<'a> {
        let (name, id, lock) = (&*info.name, &info.id, &*info.lock);
        Lockable { name, id, folder: info.folder.clone(), lock, info: Some(info) }
    }

    /// Takes the lock of a feed that nobody writes. Every tool that changes a feed takes it here.
    ///
    /// # Errors
    /// [`Error::Locked`] with the writer's process, also where the writer lives and only its lock
    /// file is gone; [`Error::Damaged`], [`Error::Io`] as from [`Lock::try_feed`].
    pub fn take(&self) -> Result<Lock> {
        let locked = |pid| Error::Locked { feed: self.name.to_owned(), pid };
        let Some(lock) = Lock::try_feed(self.lock)? else {
            return Err(locked(self.named_writer()));
        };
        match self.unlocked_writer()? {
            Some(pid) => Err(locked(Some(pid))),
            None => Ok(lock),
        }
    }

    /// The process that the live page names, whether it lives or not.
    fn named_writer(&self) -> Option<u32> {
        let info = self.info.and_then(LiveView::pid);
        let on_disk = || LivePage::open(&self.folder.join("live"), self.id, false).ok()?.session();
        info.or_else(|| on_disk().map(|stamp| stamp.pid))
    }

    /// A process that writes the feed though its lock is free.
    fn unlocked_writer(&self) -> Result<Option<u32>> {
        let registry = FeedRegistry::open(&self.folder.join("feed_registry.bin"), self.id, false);
        let registry = sound(registry)?;
        let view = self.info.zip(registry.as_ref()).map(|(info, r)| LiveView::of(info, r));
        let page = match view.transpose()?.and_then(|view| view.page) {
            Some(page) => Some(page),
            None => sound(LivePage::open(&self.folder.join("live"), self.id, false))?.map(Arc::new),
        };
        let Some(page) = page else { return Ok(None) };
        let Some(pid) = unlocked_writer(self.lock, &page)? else { return Ok(None) };
        let entries = registry.map(|registry| sound(registry.entries())).transpose()?.flatten();
        let over = entries.iter().flatten().rev().find_map(|entry| match entry {
            Entry::Session(last) => Some(
                last.session_id > pid.1 || last.close.is_some_and(|_| last.session_id == pid.1),
            ),
            _ => None,
        });
        Ok((over != Some(true)).then_some(pid.0))
    }
}

/// The process and the session of a writer that holds a feed's lock in a file that has lost its
/// name, if the live page names one. Our own process does not count: it may have let go of the
/// feed without closing it.
///
/// # Errors
/// [`Error::Io`] where that cannot be found out.
pub fn unlocked_writer(lock: &Path, page: &LivePage) -> Result<Option<(u32, u64)>> {
    let Some(stamp) = page.session().filter(|_| page.is_open()) else { return Ok(None) };
    let other = stamp.pid != std::process::id() && process::lives(stamp.pid, stamp.pid_start)?;
    let holds = other && process::has_open_unnamed(stamp.pid, lock)?;
    Ok(holds.then_some((stamp.pid, stamp.session_id)))
}

/// Who writes a feed: its process, 0 where there is one that we may not know; `None` if nobody. The
/// lock is the truth where we may ask it, the live page and its process where not.
///
/// # Errors
/// [`Error::Io`] where that cannot be found out.
pub fn writer_of(lock: &Path, page: Option<&LivePage>) -> Result<Option<u32>> {
    let stamp = page.and_then(LivePage::session);
    match (Lock::feed_is_held(lock)?, page) {
        (Some(true), _) => Ok(Some(stamp.map_or(0, |stamp| stamp.pid))),
        (Some(false), Some(page)) => Ok(unlocked_writer(lock, page)?.map(|(pid, _)| pid)),
        (Some(false), None) => Ok(None),
        (None, _) => match stamp.filter(|_| page.is_some_and(LivePage::is_open)) {
            Some(stamp) if process::lives(stamp.pid, stamp.pid_start)? => Ok(Some(stamp.pid)),
            _ => Ok(None),
        },
    }
}
