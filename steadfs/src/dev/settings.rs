//! `--set key=value`: any key of the namenode's or the datanodes' configuration.

use std::fmt::Debug;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// The two kinds of configuration that a key may belong to.
pub(crate) struct Configurations {
    pub(crate) namenode: steadfs_namenode::Config,
    pub(crate) datanode: steadfs_datanode::Config,
    /// What single datanodes have otherwise: which (0 is the first), key, value.
    pub(crate) single: Vec<(usize, String, String)>,
}

impl Configurations {
    /// Applies `key=value`.
    ///
    /// The key is a path in one of the files (`datanodes.dead_after_ms`), with `namenode.` or `datanode.` before it
    /// where both have it, or a last name alone (`dead_after_ms`) where that is enough to tell. The value is TOML,
    /// or else a text. `datanode-2.node=b` is for the second datanode alone.
    pub(crate) fn set(&mut self, setting: &str) -> anyhow::Result<()> {
        let (key, text) =
            setting.split_once('=').with_context(|| format!("--set {setting}: write key=value"))?;
        let (key, text) = (key.trim(), text.trim());
        if let Some((datanode, key)) = one_datanode(key) {
            // Tried at once, so that what is wrong is told before anything runs.
            if !apply(&mut self.datanode.clone(), key, text)? {
                bail!("--set {setting}: a datanode's configuration has no key `{key}`");
            }
            self.single.push((datanode, key.to_owned(), text.to_owned()));
            return Ok(());
        }
        let (only_namenode, only_datanode) = (key.strip_prefix("namenode."), key.strip_prefix("datanode."));
        let mut found = false;
        if only_datanode.is_none() {
            found |= apply(&mut self.namenode, only_namenode.unwrap_or(key), text)?;
        }
        if only_namenode.is_none() {
            found |= apply(&mut self.datanode, only_datanode.unwrap_or(key), text)?;
        }
        if !found {
            bail!("--set {setting}: no configuration has the key `{key}`");
        }
        Ok(())
    }
}

/// Which datanode, from 0, and which key of it `datanode-1.key` is.
fn one_datanode(key: &str) -> Option<(usize, &str)> {
    let (number, key) = key.strip_prefix("datanode-")?.split_once('.')?;
    Some((number.parse::<usize>().ok()?.checked_sub(1)?, key))
}

impl Configurations {
    /// The configuration of one datanode, from 0.
    pub(crate) fn datanode(&self, index: usize) -> anyhow::Result<steadfs_datanode::Config> {
        let mut config = self.datanode.clone();
        for (_, key, text) in self.single.iter().filter(|(datanode, ..)| *datanode == index) {
            apply(&mut config, key, text)?;
        }
        Ok(config)
    }
}

/// Sets a key of one configuration; false if it has no such key.
fn apply<T: Serialize + DeserializeOwned + Debug>(
    config: &mut T,
    key: &str,
    text: &str,
) -> anyhow::Result<bool> {
    let mut table = Table::try_from(&*config).context("writing the configuration as TOML")?;
    let Some(path) = find(&table, key)? else {
        return Ok(false);
    };
    let [parents @ .., last] = path.as_slice() else {
        return Ok(false);
    };
    let mut place = &mut table;
    for parent in parents {
        place = place.get_mut(parent).and_then(Value::as_table_mut).context("a section is a table")?;
    }
    place.insert(last.clone(), read_value(text));
    *config = Value::Table(table).try_into().map_err(|error: toml::de::Error| {
        anyhow::anyhow!("--set {}={text}: {}", path.join("."), error.message())
    })?;
    Ok(true)
}

/// The whole path of `key`: itself, or that of the only key anywhere with this last name.
fn find(table: &Table, key: &str) -> anyhow::Result<Option<Vec<String>>> {
    let names: Vec<&str> = key.split('.').collect();
    let mut hits = Vec::new();
    search(table, &mut Vec::new(), &names, &mut hits);
    hits.sort_by_key(Vec::len);
    match hits.as_slice() {
        [] => Ok(None),
        [hit] => Ok(Some(hit.clone())),
        // The whole path wins over the same name deeper in.
        [hit, ..] if hit.len() == names.len() => Ok(Some(hit.clone())),
        [hit, other, ..] => {
            bail!("--set {key}: is it `{}` or `{}`? Write more of it", hit.join("."), other.join("."))
        }
    }
}

/// Collects the paths below `table` that end with `names`.
fn search(table: &Table, path: &mut Vec<String>, names: &[&str], hits: &mut Vec<Vec<String>>) {
    for (name, value) in table {
        path.push(name.clone());
        if path.len() >= names.len() && path.iter().rev().zip(names.iter().rev()).all(|(a, b)| a == b) {
            hits.push(path.clone());
        }
        if let Value::Table(inner) = value {
            search(inner, path, names, hits);
        }
        path.pop();
    }
}

fn read_value(text: &str) -> Value {
    let line = format!("value = {text}");
    let parsed = line.parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configurations() -> Configurations {
        Configurations {
            namenode: steadfs_namenode::Config::default(),
            datanode: steadfs_datanode::Config::default(),
            single: Vec::new(),
        }
    }

    #[test]
    fn keys_are_found_by_path_and_by_last_name() {
        let mut both = configurations();
        both.set("dead_after_ms=3000").unwrap();
        both.set("datanodes.heartbeat_interval_ms = 500").unwrap();
        both.set("datanode.max_replication_streams=9").unwrap();
        both.set("rack=/a").unwrap();
        assert_eq!(both.namenode.datanodes.dead_after_ms, 3_000);
        assert_eq!(both.namenode.datanodes.heartbeat_interval_ms, 500);
        assert_eq!(both.datanode.max_replication_streams, 9);
        assert_eq!(both.datanode.rack, "/a");
    }

    #[test]
    fn one_datanode_may_differ() {
        let mut both = configurations();
        both.set("node=everywhere").unwrap();
        both.set("datanode-2.node=b").unwrap();
        let nodes = [0, 1, 2].map(|index| both.datanode(index).unwrap().node);
        assert_eq!(nodes, ["everywhere", "b", "everywhere"]);
        assert!(both.set("datanode-2.nodes=b").unwrap_err().to_string().contains("`nodes`"));
        assert!(both.set("datanode-0.node=b").is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text: &str| configurations().set(text).unwrap_err().to_string();
        assert!(refused("dead_after").contains("key=value"));
        assert!(refused("daed_after_ms=1").contains("`daed_after_ms`"));
        let kind = refused("dead_after_ms=soon");
        assert!(kind.contains("datanodes.dead_after_ms=soon"), "{kind}");
    }
}
