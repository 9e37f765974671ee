use std::fs;
use std::net::IpAddr;

use super::file::{Change, Watched, parse};
use super::*;

const GOOD: &str = r#"
[[pods]]
id = "driver"
ips = ["10.0.0.1", "fd00::1"]
node = "a"
application = "app"
role = "driver"

[[pods]]
id = "executor"
ips = ["10.0.0.2"]
node = "b"
application = "app"
role = "executor"

[[pods]]
id = "notebook"
ips = ["10.0.0.3"]
node = "b"
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn problem(text: &str) -> String {
    parse(text).unwrap_err()
}

#[test]
fn pods_are_read() {
    let pods = parse(GOOD).unwrap();
    assert_eq!(pods.len(), 3);
    assert_eq!(pods.reader(ip("fd00::1")).unwrap().application(), Some("app"));
    assert_eq!(pods.reader(ip("10.0.0.3")).unwrap().node, "b");
    assert_eq!(pods.addresses_on("b"), [ip("10.0.0.2"), ip("10.0.0.3")]);
    let out = GOOD.replacen("role = \"driver\"", "role = \"driver\"\nlocality = false", 1);
    assert_eq!(parse(&out).unwrap().reader(ip("10.0.0.2")).unwrap().application(), None);
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    assert!(problem("[[pods]]\nid = \"x\"\nips = [\"x\"]\nnode = \"n\"").contains("line 3"));
    assert!(problem("[[pods]]\nid = \"x\"\nips = []\nnode = \"n\"").contains("`x` has 0 addresses"));
    assert!(problem("[[pods]]\nid = \"x\"\nips = []\nnode = \"n\"\nrole = \"boss\"").contains("boss"));
    assert!(problem("[[podz]]").contains("podz"));
}

#[test]
fn a_change_is_seen_and_a_bad_file_is_told_once_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pods.toml");
    let config = LocalityConfig { pods_file: path.clone(), ..LocalityConfig::default() };
    let locality = Locality::new(&config);
    let mut watched = Watched::new(path.clone());
    let mut look = || {
        let change = watched.look();
        let kind = match &change {
            Change::None => "none",
            Change::Pods(_) => "pods",
            Change::Bad(_) => "bad",
        };
        if let Some(pods) = locality.judged(change) {
            locality.replace(Arc::new(pods));
        }
        (kind, locality.pods.load().len())
    };
    assert_eq!([look(), look()], [("bad", 0), ("none", 0)]);
    fs::write(&path, GOOD).unwrap();
    assert_eq!([look(), look()], [("pods", 3), ("none", 3)]);
    fs::write(&path, &GOOD[..GOOD.len() - 5]).unwrap();
    assert_eq!([look(), look()], [("bad", 3), ("none", 3)]);
    fs::remove_file(&path).unwrap();
    assert_eq!([look(), look()], [("bad", 3), ("none", 3)]);
    fs::write(&path, "").unwrap();
    assert_eq!([look(), look()], [("pods", 0), ("none", 0)]);
}

#[test]
fn nobody_is_named_when_it_is_switched_off() {
    let config = LocalityConfig { name_executors: false, ..LocalityConfig::default() };
    for (config, namer) in [(LocalityConfig::default(), true), (config, false)] {
        let locality = Locality::new(&config);
        locality.replace(Arc::new(parse(GOOD).unwrap()));
        assert_eq!(locality.namer(Some(ip("10.0.0.1")), Asked::Listing).is_some(), namer);
        assert!(locality.namer(Some(ip("10.0.0.3")), Asked::Listing).is_none());
        assert!(locality.namer(Some(ip("10.0.0.2")), Asked::BlockLocations).is_none());
        assert!(locality.namer(None, Asked::Listing).is_none());
        assert_eq!(locality.peers_on("b"), ["10.0.0.2", "10.0.0.3"]);
    }
}
