//! Which groups a user is in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use quick_cache::sync::Cache;
use steadfs_daemon::clock::SharedClock;
use steadfs_daemon::pool::DiskPool;

use crate::config::UsersConfig;

/// Users whose groups are remembered.
const CACHED_USERS: usize = 10_000;
/// Most groups taken of one user.
const MAX_GROUPS: usize = 1_024;

/// The user that this process runs as; its number if it has no name.
pub(crate) fn process_user() -> String {
    uzers::get_effective_username().map_or_else(
        || uzers::get_effective_uid().to_string(),
        |name| String::from_utf8_lossy(name.as_bytes()).into_owned(),
    )
}

/// What the operating system says, through its name service: files, LDAP, whatever it is set up for. No shell is
/// started. A user it does not know has no groups. May block.
fn of_operating_system(user: &str) -> Vec<String> {
    let Some(known) = uzers::get_user_by_name(OsStr::new(user)) else { return Vec::new() };
    let groups = known.groups().unwrap_or_default();
    let names = groups.iter().map(|group| String::from_utf8_lossy(group.name().as_bytes()).into_owned());
    names.take(MAX_GROUPS).collect()
}

#[derive(Clone)]
struct Answer {
    groups: Arc<[String]>,
    /// On the monotonic clock.
    until: Duration,
}

type Fixed = BTreeMap<String, Arc<[String]>>;

/// Groups by user: a static map, else the operating system's answer, believed for a while.
pub(crate) struct Groups {
    fixed: ArcSwap<Fixed>,
    cache: Cache<String, Answer>,
    keep: Duration,
    clock: SharedClock,
    pool: DiskPool,
}

impl Groups {
    pub(crate) fn new(config: &UsersConfig, clock: SharedClock, pool: DiskPool) -> Self {
        let keep = Duration::from_millis(config.group_cache_ms);
        let fixed = ArcSwap::from_pointee(fixed(config));
        Self { fixed, cache: Cache::new(CACHED_USERS), keep, clock, pool }
    }

    /// The user's groups, the primary one first.
    pub(crate) async fn of(&self, user: &str) -> Arc<[String]> {
        if let Some(groups) = self.fixed.load().get(user) {
            return groups.clone();
        }
        let now = self.clock.monotonic();
        if let Some(answer) = self.cache.get(user).filter(|answer| answer.until > now) {
            return answer.groups;
        }
        let asked = user.to_owned();
        let groups: Arc<[String]> = self.pool.run(move || of_operating_system(&asked)).await.into();
        self.cache.insert(user.to_owned(), Answer { groups: groups.clone(), until: now + self.keep });
        groups
    }

    /// Forgets what the operating system said, and takes a new map if there is one.
    pub(crate) fn refresh(&self, config: Option<&UsersConfig>) {
        if let Some(config) = config {
            self.fixed.store(Arc::new(fixed(config)));
        }
        self.cache.clear();
    }
}

fn fixed(config: &UsersConfig) -> Fixed {
    config.groups.iter().map(|(user, groups)| (user.clone(), groups.clone().into())).collect()
}

#[cfg(test)]
mod tests {
    use steadfs_common::Millis;
    use steadfs_daemon::clock::ManualClock;

    use super::*;

    fn with(groups: &[&str]) -> UsersConfig {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        UsersConfig { groups: BTreeMap::from([("root".into(), groups)]), ..UsersConfig::default() }
    }

    #[tokio::test]
    async fn the_map_goes_before_the_operating_system() {
        let pool = DiskPool::new("test", 1, 4).unwrap();
        let groups = Groups::new(&with(&["wheel", "ops"]), ManualClock::shared(Millis(0)), pool);
        assert_eq!(&*groups.of("root").await, ["wheel", "ops"]);
        assert!(groups.of("nobody-has-this-name").await.is_empty());
        // Whoever runs the test is in some group, and the second answer is the first.
        let me = process_user();
        assert_eq!(groups.of(&me).await, groups.of(&me).await);
    }

    #[tokio::test]
    async fn an_answer_is_believed_for_a_while_and_until_a_refresh() {
        let pool = DiskPool::new("test", 1, 4).unwrap();
        let clock = ManualClock::shared(Millis(0));
        let groups = Groups::new(&with(&["wheel"]), clock.clone(), pool);
        groups.of("nobody-has-this-name").await;
        assert!(groups.cache.get("nobody-has-this-name").is_some());
        groups.refresh(None);
        assert!(groups.cache.get("nobody-has-this-name").is_none());
        assert_eq!(&*groups.of("root").await, ["wheel"]);
        groups.refresh(Some(&with(&["staff"])));
        assert_eq!(&*groups.of("root").await, ["staff"]);
    }

    #[test]
    fn names_are_never_interpreted() {
        for name in ["", "a b", "$(id)", "../x", "x;y", "\u{0}"] {
            if !name.contains('\0') {
                assert!(of_operating_system(name).is_empty(), "{name:?}");
            }
        }
    }
}
