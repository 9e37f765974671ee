//! Access control lists as two plain maps, and extended attributes as a list of texts.

use std::collections::BTreeMap;

use steadfs_common::acl::AclScope;
use steadfs_common::{FsErrorKind, FsPath};

use super::{Answer, Kind, Model, Node, Outcome, WRITE, names};
use crate::Caller;
use crate::acl::AclChange;
use crate::record::AclKind;
use FsErrorKind::{AccessDenied, InvalidAcl, NotFound, XAttrExists, XAttrMissing};

type Whom = (AclKind, Option<String>);
type List = BTreeMap<Whom, u8>;

const USER: Whom = (AclKind::User, None);
const GROUP: Whom = (AclKind::Group, None);
const MASK: Whom = (AclKind::Mask, None);
const OTHER: Whom = (AclKind::Other, None);
const BASE: [Whom; 3] = [USER, GROUP, OTHER];

/// What a node has beside its mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extra {
    /// Named entries and the group's own; nothing if the mode says it all.
    access: List,
    default: List,
    /// Names and values, the one set last first.
    attributes: Vec<(String, String)>,
}

impl Extra {
    pub(super) fn shown(&self) -> String {
        let entries = |list: &List| {
            let entry = |((kind, name), bits): (&Whom, &u8)| format!("{}:{name:?}:{bits}", *kind as u8);
            list.iter().map(entry).collect::<Vec<_>>().join(",")
        };
        let (access, default) = (entries(&self.access), entries(&self.default));
        format!("{access} {default} {:?}", self.attributes)
    }
}

impl Node {
    fn access(&self) -> List {
        let digit = |shift: u32| (self.mode >> shift & 7) as u8;
        let mut list = self.extra.access.clone();
        let class = if list.is_empty() { GROUP } else { MASK };
        list.extend([(USER, digit(6)), (class, digit(3)), (OTHER, digit(0))]);
        list
    }

    fn set_lists(&mut self, mut access: List, default: List) {
        let bits = |bits: Option<u8>| u16::from(bits.unwrap());
        let class = access.get(&MASK).or(access.get(&GROUP)).copied();
        let (owner, others) = (bits(access.remove(&USER)), bits(access.remove(&OTHER)));
        self.mode = self.mode & 0o1000 | owner << 6 | bits(class) << 3 | others;
        if access.remove(&MASK).is_none() {
            access.clear();
        }
        self.extra.access = access;
        self.extra.default = default;
    }

    pub(super) fn list_allows(&self, who: &Caller, bits: u16) -> Option<bool> {
        if self.extra.access.is_empty() {
            return None;
        }
        let (bits, mask) = (bits as u8, (self.mode >> 3 & 7) as u8);
        if self.owner == who.user {
            return Some((self.mode >> 6) as u8 & bits == bits);
        }
        if let Some(entry) = self.extra.access.get(&(AclKind::User, Some(who.user.clone()))) {
            return Some(entry & mask & bits == bits);
        }
        let mine = self.extra.access.iter().filter(|((kind, name), _)| {
            *kind == AclKind::Group && who.groups.contains(name.as_ref().unwrap_or(&self.group))
        });
        let mine: Vec<u8> = mine.map(|(_, entry)| *entry).collect();
        Some(match mine.is_empty() {
            true => self.mode as u8 & bits == bits,
            false => mine.iter().any(|entry| entry & mask & bits == bits),
        })
    }

    /// Begins as what is made in `parent`.
    pub(super) fn inherit(mut self, parent: &Self) -> Self {
        let default = &parent.extra.default;
        if default.is_empty() {
            return self;
        }
        let mut access = default.clone();
        let class = if default.contains_key(&MASK) { MASK } else { GROUP };
        for (whom, shift) in [(USER, 6), (class, 3), (OTHER, 0)] {
            *access.get_mut(&whom).unwrap() &= (self.mode >> shift & 7) as u8;
        }
        let default = if self.file().is_none() { default.clone() } else { List::new() };
        self.set_lists(access, default);
        self
    }
}

/// One of the two lists after a change; `access` is the other one if this is the default list.
fn changed(old: &List, scope: AclScope, change: &AclChange, access: &List) -> Result<List, FsErrorKind> {
    let (AclChange::Modify(entries) | AclChange::RemoveEntries(entries) | AclChange::Set(entries)) = change
    else {
        let gone = *change == AclChange::RemoveDefault && scope == AclScope::Default;
        return Ok(if gone { List::new() } else { old.clone() });
    };
    let mine = entries.iter().filter(|entry| entry.scope == scope).map(|entry| entry.entry.clone());
    let spec: List = mine.map(|entry| ((entry.kind, entry.name), entry.permission)).collect();
    let had = old.contains_key(&MASK);
    let (mut list, given, keeps, loses) = match change {
        AclChange::Modify(_) => {
            let both = old.clone().into_iter().chain(spec.clone()).collect();
            (both, spec.get(&MASK).copied(), had, false)
        }
        AclChange::Set(_) => (spec.clone(), spec.get(&MASK).copied(), false, false),
        _ => {
            let mut rest: List = old.clone();
            rest.retain(|whom, _| !spec.contains_key(whom));
            let loses = had && spec.contains_key(&MASK);
            (rest, None, had && !loses, loses)
        }
    };
    if spec.is_empty() || list == *old && !matches!(change, AclChange::Modify(_) | AclChange::Set(_)) {
        return Ok(old.clone());
    }
    list.remove(&MASK);
    if scope == AclScope::Default {
        if list.is_empty() {
            return Ok(list);
        }
        // What is missing is as in the access list.
        for whom in BASE {
            if let Some(bits) = access.get(&whom).filter(|_| !list.contains_key(&whom)) {
                list.insert(whom, *bits);
            }
        }
    }
    let named = list.keys().any(|(_, name)| name.is_some());
    if loses {
        return if named { Err(InvalidAcl) } else { Ok(list) };
    }
    let class = list.iter().filter(|((kind, name), _)| *kind == AclKind::Group || name.is_some());
    let union = class.fold(0, |all, (_, bits)| all | bits);
    if let Some(bits) = given.or((keeps || named).then_some(union)) {
        list.insert(MASK, bits);
    }
    Ok(list)
}

impl Model {
    pub(in super::super) fn set_acl(&mut self, who: &Caller, at: &FsPath, change: &AclChange) -> Outcome {
        let node = self.owned(who, at)?;
        if *change == AclChange::Remove || *change == AclChange::Set(Vec::new()) {
            if let Some(group) = node.extra.access.get(&GROUP) {
                node.mode = node.mode & !0o070 | u16::from(*group) << 3;
            }
            node.extra.access.clear();
            node.extra.default.clear();
            return Ok(Answer::Done);
        }
        let access = changed(&node.access(), AclScope::Access, change, &List::new())?;
        if BASE.iter().any(|whom| !access.contains_key(whom)) {
            return Err(InvalidAcl);
        }
        let default = changed(&node.extra.default, AclScope::Default, change, &access)?;
        if !default.is_empty() && matches!(node.kind, Kind::File(_)) {
            return Err(InvalidAcl);
        }
        node.set_lists(access, default);
        Ok(Answer::Done)
    }

    fn attribute_owner(&mut self, who: &Caller, at: &FsPath, name: &str) -> Result<&mut Node, FsErrorKind> {
        let trusted = name.starts_with("trusted.");
        if trusted && !who.superuser {
            return Err(AccessDenied);
        }
        let names = names(at);
        self.pass(who, &names, AccessDenied)?;
        let node = self.find_mut(&names).ok_or(NotFound)?;
        let sticky_folder = node.file().is_none() && node.mode & 0o1000 != 0;
        let allowed = trusted
            || who.superuser
            || if sticky_folder { node.owner == who.user } else { node.may(who, WRITE) };
        if allowed { Ok(node) } else { Err(AccessDenied) }
    }

    pub(in super::super) fn set_xattr(
        &mut self,
        who: &Caller,
        at: &FsPath,
        name: &str,
        value: &str,
        (create, replace): (bool, bool),
    ) -> Outcome {
        let attributes = &mut self.attribute_owner(who, at, name)?.extra.attributes;
        let exists = attributes.iter().any(|(known, _)| known == name);
        match (exists, create, replace) {
            (_, false, false) => return Err(FsErrorKind::InvalidArgument),
            (true, _, false) => return Err(XAttrExists),
            (false, false, _) => return Err(XAttrMissing),
            _ => {}
        }
        attributes.retain(|(known, _)| known != name);
        attributes.insert(0, (name.to_owned(), value.to_owned()));
        Ok(Answer::Done)
    }

    pub(in super::super) fn remove_xattr(&mut self, who: &Caller, at: &FsPath, name: &str) -> Outcome {
        let attributes = &mut self.attribute_owner(who, at, name)?.extra.attributes;
        let before = attributes.len();
        attributes.retain(|(known, _)| known != name);
        if attributes.len() == before { Err(XAttrMissing) } else { Ok(Answer::Done) }
    }
}
