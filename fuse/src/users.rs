//! Users and groups: numbers on this machine, names in the cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use steadfs_daemon::pool::DiskPool;

/// How long a name or number stays known before the machine's tables are asked again.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Names and numbers remembered at most, each way.
const REMEMBERED: usize = 4_096;
/// The number of a name that this machine does not know, and that is none itself.
const NOBODY: u32 = 65_534;

/// The mapping of both users and groups, asked for with a bounded memory. A number without a name is written as digits, and
/// digits are read as that number, so that it comes back.
pub(crate) struct Names {
    pool: DiskPool,
    names: Cache<(Kind, u32), (Instant, Arc<str>)>,
    numbers: Cache<(Kind, Arc<str>), (Instant, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    User,
    Group,
}

impl Names {
    pub(crate) fn new(pool: DiskPool) -> Self {
        Self { pool, names: Cache::new(REMEMBERED), numbers: Cache::new(REMEMBERED) }
    }

    /// The name of a number.
    pub(crate) async fn name(&self, kind: Kind, number: u32) -> Arc<str> {
        if let Some((asked, name)) = self.names.get(&(kind, number))
            && asked.elapsed() < KNOWN_FOR
        {
            return name;
        }
        let name: Arc<str> = self.pool.run(move || name_here(kind, number)).await.into();
        self.names.insert((kind, number), (Instant::now(), name.clone()));
        name
    }

    /// The number of a name.
    pub(crate) async fn number(&self, kind: Kind, name: &str) -> u32 {
        let key = (kind, Arc::from(name));
        if let Some((asked, number)) = self.numbers.get(&key)
            && asked.elapsed() < KNOWN_FOR
        {
            return number;
        }
        let wanted = name.to_owned();
        let number = self.pool.run(move || number_here(kind, &wanted)).await;
        self.numbers.insert(key, (Instant::now(), number));
        number
    }
}

/// The name of a group, asked of the machine's tables at once.
pub(crate) fn group_here(number: u32) -> String {
    name_here(Kind::Group, number)
}

fn name_here(kind: Kind, number: u32) -> String {
    let name = match kind {
        Kind::User => uzers::get_user_by_uid(number).map(|user| user.name().to_owned()),
        Kind::Group => uzers::get_group_by_gid(number).map(|group| group.name().to_owned()),
    };
    name.and_then(|name| name.into_string().ok()).unwrap_or_else(|| number.to_string())
}

fn number_here(kind: Kind, name: &str) -> u32 {
    let known = match kind {
        Kind::User => uzers::get_user_by_name(name).map(|user| user.uid()),
        Kind::Group => uzers::get_group_by_name(name).map(|group| group.gid()),
    };
    known.or_else(|| name.parse().ok()).unwrap_or(NOBODY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_and_names_come_back() {
        let names = Names::new(DiskPool::new("names", 1, 4).unwrap());
        for kind in [Kind::User, Kind::Group] {
            assert_eq!(&*names.name(kind, 0).await, "root");
            assert_eq!(names.number(kind, "root").await, 0);
            assert_eq!(&*names.name(kind, 3_999_888_777).await, "3999888777");
            assert_eq!(names.number(kind, "3999888777").await, 3_999_888_777);
            assert_eq!(names.number(kind, "no such name here").await, NOBODY);
            assert_eq!(names.number(kind, "no such name here").await, NOBODY);
        }
    }
}
