//! What happens to files as a whole: cut, replaced, joined, and taken from writers that are gone.

use super::*;

impl Model {
    /// What the block of a recovery shall be cut to, if that is what runs.
    pub(in super::super) fn goal(&self, recovery: usize) -> Option<u64> {
        let serial = self.recoveries.get(recovery)?;
        let mut blocks = self.root.files().into_iter().flat_map(|file| &file.blocks);
        blocks.find(|block| block.serial == *serial)?.goal
    }

    pub(in super::super) fn truncate(
        &mut self,
        who: &Caller,
        at: &FsPath,
        length: u64,
        client: &str,
    ) -> Outcome {
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        self.write(who, &names)?;
        let file = self.find(&names).ok_or(NotFound)?.file().ok_or(IsADirectory)?;
        let goal = file.blocks.last().and_then(|last| Some(file.length() - last.length + last.goal?));
        if goal == Some(length) {
            return Ok(Answer::Bool(false));
        }
        let id = file.id;
        self.take_over(id, client)?;
        let (now, number) = (self.now, self.recoveries.len());
        let file = self.by_id(id)?;
        if file.length() < length {
            return Err(InvalidArgument);
        }
        if file.length() == length {
            return Ok(Answer::Bool(true));
        }
        self.would_exceed(id, |file| {
            while file.blocks.last().is_some_and(|last| file.length() - last.length >= length) {
                file.blocks.pop();
            }
            if file.length() > length {
                file.blocks.last_mut().unwrap().state = State::Open;
            }
        })?;
        let file = self.by_id(id)?;
        while file.blocks.last().is_some_and(|last| file.length() - last.length >= length) {
            file.blocks.pop();
        }
        let over = file.length() - length;
        if over == 0 {
            return Ok(Answer::Bool(true));
        }
        let last = file.blocks.last_mut().unwrap();
        (last.state, last.recovery, last.goal) = (State::Open, Some((number, now)), Some(last.length - over));
        let serial = last.serial;
        file.writer = Some(client.into());
        self.recoveries.push(serial);
        self.renewals.insert(client.into(), now);
        Ok(Answer::Bool(false))
    }

    /// Whether the caller may write this file.
    pub(in super::super) fn may_write(&self, who: &Caller, at: &FsPath) -> Result<(), FsErrorKind> {
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        self.write(who, &names)?;
        self.find(&names).ok_or(NotFound)?.file().ok_or(IsADirectory).map(|_| ())
    }

    /// Gives a file blocks of these lengths in place of its own.
    pub(in super::super) fn replace(&mut self, at: &FsPath, lengths: &[u64]) -> Outcome {
        let names = names(at);
        let first = self.serial + 1;
        self.serial += lengths.len();
        let id = self.find(&names).ok_or(NotFound)?.file().ok_or(IsADirectory)?.id;
        let file = self.by_id(id)?;
        if file.writer.is_some() {
            return Err(AlreadyBeingCreated);
        }
        let block = |(number, length): (usize, &u64)| PlainBlock {
            serial: first + number,
            length: *length,
            synced: 0,
            state: State::Complete,
            recovery: None,
            goal: None,
        };
        file.blocks = lengths.iter().enumerate().map(block).collect();
        Ok(Answer::Bool(true))
    }

    pub(in super::super) fn concat(&mut self, who: &Caller, target: &FsPath, sources: &[FsPath]) -> Outcome {
        if sources.is_empty() {
            return Err(InvalidArgument);
        }
        let to = names(target);
        let sources: Vec<_> = sources.iter().map(names).collect();
        self.pass(who, &to, AccessDenied)?;
        self.write(who, &to)?;
        let file = self.find(&to).ok_or(NotFound)?.file().ok_or(IsADirectory)?;
        if file.writer.is_some() {
            return Err(InvalidArgument);
        }
        for source in &sources {
            self.pass(who, source, AccessDenied)?;
            if self.find(source).is_some_and(|node| !node.may(who, READ)) {
                return Err(AccessDenied);
            }
            self.parent_write(who, source)?;
            let file = self.find(source).ok_or(NotFound)?.file().ok_or(IsADirectory)?;
            let same_folder = source[..source.len() - 1] == to[..to.len() - 1];
            if !same_folder || *source == to || file.writer.is_some() || file.blocks.is_empty() {
                return Err(InvalidArgument);
            }
        }
        if (1..sources.len()).any(|index| sources[..index].contains(&sources[index])) {
            return Err(InvalidArgument);
        }
        self.whole(|model| {
            let before = model.clone();
            for source in &sources {
                let Kind::File(file) = model.take(source).unwrap().kind else { unreachable!() };
                match &mut model.find_mut(&to).unwrap().kind {
                    Kind::File(target) => target.blocks.extend(file.blocks),
                    Kind::Folder(_) => unreachable!(),
                }
            }
            model.exceeds(&before, &to[..to.len() - 1], 0)?;
            Ok(Answer::Done)
        })
    }

    pub(in super::super) fn recover(&mut self, who: &Caller, at: &FsPath) -> Outcome {
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        let file = self.find(&names).ok_or(NotFound)?.file().ok_or(IsADirectory)?;
        let (id, writer) = (file.id, file.writer.clone());
        if writer.is_none() {
            return Ok(Answer::Bool(true));
        }
        self.write(who, &names)?;
        self.whole(|model| model.release(id).map(Answer::Bool))
    }

    pub(in super::super) fn expire(&mut self, id: InodeId) -> Outcome {
        let Some(writer) = self.by_id(id)?.writer.clone() else { return Ok(Answer::Bool(true)) };
        if !self.silent(&writer, Duration::from_secs(20 * 60)) {
            return Ok(Answer::Bool(false));
        }
        Ok(Answer::Bool(self.release(id).unwrap_or(false)))
    }

    pub(in super::super) fn finish(&mut self, recovery: usize, length: u64, nothing: bool) -> Outcome {
        let serial = self.recoveries[recovery];
        if self.limbo.contains(&serial) {
            return Err(NotFound);
        }
        let files = self.root.files_mut().into_iter();
        let found = files.filter_map(|file| {
            let index = file.blocks.iter().position(|block| block.serial == serial)?;
            Some((file, index))
        });
        let Some((file, index)) = found.last() else {
            return if nothing { Ok(Answer::Done) } else { Err(Refused) };
        };
        let block = &mut file.blocks[index];
        if block.state != State::Open {
            return Ok(Answer::Done);
        }
        if block.recovery.is_none_or(|(number, _)| number != recovery) {
            return Err(Refused);
        }
        let lost = match block.goal {
            Some(goal) => nothing || goal != length,
            None => block.synced > if nothing { 0 } else { length },
        };
        if lost {
            return Err(Refused);
        }
        if nothing {
            file.blocks.remove(index);
        } else if length > BLOCK {
            return Err(Refused);
        } else {
            *block = PlainBlock { length, state: State::Complete, recovery: None, goal: None, ..*block };
        }
        file.settle(true);
        if file.all_complete() {
            file.writer = None;
        }
        Ok(Answer::Done)
    }
}
