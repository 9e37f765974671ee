//! Moving a replica's two files to another folder, and what a move that broke off leaves.
//!
//! For want of room one file may move and the other not. What moved goes back at once; what cannot is noted as strayed, and
//! goes back when the replica is tried again. A crash in between leaves what [`crate::scan`] knows.

use crate::StoreResult;
use crate::core::Core;
use crate::layout::Place;
use crate::replica::OpenReplica;

/// Files of a replica that lie, or may after a crash lie, in another folder than its state says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Strayed {
    /// Where they strayed to.
    pub(crate) place: Place,
    /// Whether the data file lies there now.
    pub(crate) data: bool,
    /// Whether the checksum file does.
    pub(crate) meta: bool,
}

impl Core {
    /// Moves both files of a replica to another folder, durably. The checksum file first: at start a data file finds it in
    /// either folder. On an error they lie where they did, or are noted as strayed. The caller holds `io`, and changes the
    /// replica's state.
    pub(crate) fn move_files(&self, open: &OpenReplica, to: Place) -> StoreResult<()> {
        let moved = self.move_both(open, to);
        if moved.is_err()
            && let Err(error) = self.bring_home(open)
        {
            tracing::warn!(block = %open.id, %error, "a file of a replica lies in the wrong folder until it is tried again");
        }
        moved
    }

    fn move_both(&self, open: &OpenReplica, to: Place) -> StoreResult<()> {
        let (from, stamp) = {
            let state = open.state.lock();
            (state.place(), state.stamp)
        };
        let note = |strayed| open.state.lock().strayed = strayed;
        let disk = &open.volume.disk;
        disk.rename(&open.meta_path(from, stamp), &open.meta_path(to, stamp))?;
        note(Some(Strayed { place: to, data: false, meta: true }));
        disk.rename(&open.data_path(from), &open.data_path(to))?;
        note(Some(Strayed { place: to, data: true, meta: true }));
        open.volume.sync_folder(to, open.id)?;
        note(None);
        Ok(())
    }

    /// Moves what has strayed to where the replica's state says, durably. The caller holds `io`.
    pub(crate) fn bring_home(&self, open: &OpenReplica) -> StoreResult<()> {
        let Some(strayed) = self.rename_home(open)? else { return Ok(()) };
        // Durable before anything else is done to the replica: a start must not find one file as it is now and one as it was.
        let home = open.state.lock().place();
        open.volume.sync_folder(home, open.id)?;
        open.volume.sync_folder(strayed.place, open.id)?;
        open.state.lock().strayed = None;
        Ok(())
    }

    /// As [`Self::bring_home`], without making it durable. Gives what had strayed.
    pub(crate) fn rename_home(&self, open: &OpenReplica) -> StoreResult<Option<Strayed>> {
        let (home, stamp, strayed) = {
            let state = open.state.lock();
            (state.place(), state.stamp, state.strayed)
        };
        let Some(mut left) = strayed else { return Ok(None) };
        let disk = &open.volume.disk;
        if left.data {
            disk.rename(&open.data_path(left.place), &open.data_path(home))?;
            left.data = false;
            open.state.lock().strayed = Some(left);
        }
        if left.meta {
            disk.rename(&open.meta_path(left.place, stamp), &open.meta_path(home, stamp))?;
            left.meta = false;
            open.state.lock().strayed = Some(left);
        }
        Ok(strayed)
    }

    /// Removes what has strayed of a replica that goes.
    pub(crate) fn remove_strayed(&self, open: &OpenReplica, strayed: Option<Strayed>) -> StoreResult<()> {
        let Some(Strayed { place, data, meta }) = strayed else { return Ok(()) };
        let (stamp, disk) = (open.state.lock().stamp, &open.volume.disk);
        let no_data = if data { disk.remove(&open.data_path(place)) } else { Ok(()) };
        let no_meta = if meta { disk.remove(&open.meta_path(place, stamp)) } else { Ok(()) };
        no_data.and(no_meta)
    }
}
