//! Who may act for whom, and from where.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use arc_swap::ArcSwap;
use steadfs_common::{FsError, FsErrorKind, FsResult};
use steadfs_daemon::pool::DiskPool;

use crate::config::ProxyConfig;

const ANY: &str = "*";

/// A range of addresses, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// As IPv6, so that one rule fits both.
    bits: u128,
    mask: u128,
}

impl Range {
    /// `10.0.0.0/8`, `fd00::/8`, `10.0.0.1`, `::1`.
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(width);
        if length > width {
            return None;
        }
        let mask = u128::MAX.checked_shl(width - length).unwrap_or(0);
        // Of an IPv4 address the prefix that makes it an IPv6 address must fit as well.
        Some(Self { bits: bits(address) & mask, mask })
    }

    fn holds(self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.bits
    }
}

fn bits(address: IpAddr) -> u128 {
    let address = match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    address.to_bits()
}

/// Whether the text is an address or a range of them.
pub(crate) fn is_address_range(text: &str) -> bool {
    Range::parse(text).is_some()
}

/// One user's rights to act for others.
struct Proxy {
    any_host: bool,
    ranges: Vec<Range>,
    names: Arc<[String]>,
    groups: Vec<String>,
    users: Vec<String>,
}

impl Proxy {
    fn new(config: &ProxyConfig) -> Self {
        let (ranges, names): (Vec<_>, Vec<_>) =
            config.hosts.iter().partition(|host| Range::parse(host).is_some());
        Self {
            any_host: config.hosts.iter().any(|host| host == ANY),
            ranges: ranges.into_iter().filter_map(|host| Range::parse(host)).collect(),
            names: names.into_iter().filter(|host| *host != ANY).cloned().collect(),
            groups: config.groups.clone(),
            users: config.users.clone(),
        }
    }

    fn acts_for(&self, user: &str, groups: &[String]) -> bool {
        let has = |list: &[String], name: &str| list.iter().any(|listed| listed == ANY || listed == name);
        has(&self.users, user)
            || self.groups.iter().any(|group| group == ANY)
            || groups.iter().any(|group| has(&self.groups, group))
    }
}

/// Who may act for whom.
pub(crate) struct Proxies {
    known: ArcSwap<BTreeMap<String, Arc<Proxy>>>,
    pool: DiskPool,
}

impl Proxies {
    pub(crate) fn new(config: &BTreeMap<String, ProxyConfig>, pool: DiskPool) -> Self {
        Self { known: ArcSwap::from_pointee(proxies(config)), pool }
    }

    /// Takes new rights.
    pub(crate) fn refresh(&self, config: &BTreeMap<String, ProxyConfig>) {
        self.known.store(Arc::new(proxies(config)));
    }

    /// Whether `real` at `address` may act for `user`, who is in `groups`.
    ///
    /// # Errors
    /// Unauthorized, in HDFS's words.
    pub(crate) async fn check(
        &self,
        real: &str,
        user: &str,
        groups: &[String],
        address: Option<IpAddr>,
    ) -> FsResult<()> {
        let proxy = self.known.load().get(real).filter(|proxy| proxy.acts_for(user, groups)).cloned();
        let Some(proxy) = proxy else {
            return refused(format!("User: {real} is not allowed to impersonate {user}"));
        };
        if proxy.any_host {
            return Ok(());
        }
        let shown = address.map_or_else(|| "null".to_owned(), |address| address.to_string());
        let refusal = || refused(format!("Unauthorized connection for super-user: {real} from IP {shown}"));
        let Some(address) = address else { return refusal() };
        if proxy.ranges.iter().any(|range| range.holds(address)) {
            return Ok(());
        }
        if proxy.names.is_empty() {
            return refusal();
        }
        let names = Arc::clone(&proxy.names);
        if self.pool.run(move || is_named(&names, address)).await { Ok(()) } else { refusal() }
    }
}

fn proxies(config: &BTreeMap<String, ProxyConfig>) -> BTreeMap<String, Arc<Proxy>> {
    config.iter().map(|(user, proxy)| (user.clone(), Arc::new(Proxy::new(proxy)))).collect()
}

fn refused(message: String) -> FsResult<()> {
    Err(FsError::new(FsErrorKind::Unauthorized, message))
}

/// Whether one of the host names is of this address now. May block.
fn is_named(names: &[String], address: IpAddr) -> bool {
    names.iter().any(|name| {
        (name.as_str(), 0)
            .to_socket_addrs()
            .is_ok_and(|mut found| found.any(|found| bits(found.ip()) == bits(address)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(hosts: &[&str], groups: &[&str], users: &[&str]) -> ProxyConfig {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ProxyConfig { hosts: owned(hosts), groups: owned(groups), users: owned(users) }
    }

    async fn asked(proxies: &Proxies, user: &str, groups: &[&str], from: &str) -> Result<(), String> {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        let answer = proxies.check("oozie", user, &groups, Some(from.parse().unwrap())).await;
        answer.map_err(|error| {
            assert_eq!(error.kind(), FsErrorKind::Unauthorized);
            error.message().to_owned()
        })
    }

    fn with(config: ProxyConfig) -> Proxies {
        let pool = DiskPool::new("test", 1, 4).unwrap();
        Proxies::new(&BTreeMap::from([("oozie".to_owned(), config)]), pool)
    }

    #[tokio::test]
    async fn user_or_group_and_host_must_fit() {
        let rights = with(proxy(&["10.1.0.0/16", "fd00::/8", "localhost"], &["staff"], &["ann"]));
        assert_eq!(asked(&rights, "ann", &[], "10.1.2.3").await, Ok(()));
        assert_eq!(asked(&rights, "bob", &["x", "staff"], "fd00::7").await, Ok(()));
        assert_eq!(asked(&rights, "ann", &[], "127.0.0.1").await, Ok(()));
        assert_eq!(
            asked(&rights, "bob", &["dev"], "10.1.2.3").await.unwrap_err(),
            "User: oozie is not allowed to impersonate bob"
        );
        assert_eq!(
            asked(&rights, "ann", &[], "10.2.0.1").await.unwrap_err(),
            "Unauthorized connection for super-user: oozie from IP 10.2.0.1"
        );
        let error = rights.check("hue", "ann", &[], None).await.unwrap_err();
        assert_eq!(error.message(), "User: hue is not allowed to impersonate ann");
    }

    #[tokio::test]
    async fn a_star_fits_all_and_new_rights_are_taken() {
        let rights = with(proxy(&["*"], &["*"], &[]));
        assert_eq!(asked(&rights, "ann", &[], "1.2.3.4").await, Ok(()));
        rights.refresh(&BTreeMap::from([("oozie".to_owned(), proxy(&["*"], &[], &["*"]))]));
        assert_eq!(asked(&rights, "ann", &[], "::1").await, Ok(()));
        rights.refresh(&BTreeMap::new());
        assert!(asked(&rights, "ann", &[], "::1").await.is_err());
    }

    #[test]
    fn ranges_are_ranges() {
        for (range, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("::/0", "8.8.8.8", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
        ] {
            assert_eq!(
                Range::parse(range).unwrap().holds(address.parse().unwrap()),
                holds,
                "{range} {address}"
            );
        }
        for none in ["", "10.0.0.0/33", "x", "10.0.0.0/-1", "::/129", "host/8"] {
            assert_eq!(Range::parse(none), None, "{none}");
        }
    }
}
