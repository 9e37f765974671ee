//! A line of the audit log, as HDFS writes it: fields with tabs between them, so that tools which read HDFS's read ours.

use std::fmt::{self, Display, Write as _};
use std::net::IpAddr;

use steadfs_namenode_core::Caller;
use steadfs_namenode_core::command::Door;
use steadfs_namenode_core::record::{Inode, InodeKind};

/// Longest path that is written whole, in characters; the rules let none be longer.
const MAX_PATH_CHARS: usize = 8_200;

/// What a line tells.
pub(super) struct Line<'a> {
    pub(super) allowed: bool,
    pub(super) caller: &'a Caller,
    pub(super) command: &'a str,
    pub(super) source: Option<&'a str>,
    pub(super) destination: Option<&'a str>,
    pub(super) permission: Option<&'a str>,
    /// Whether to write what the client says that it does.
    pub(super) with_context: bool,
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allowed={}\tugi={}\tip=", self.allowed, Who(self.caller))?;
        match self.caller.address {
            Some(address) => write!(f, "/{}", JavaAddress(address))?,
            None => f.write_str("null")?,
        }
        write!(f, "\tcmd={}", self.command)?;
        write!(f, "\tsrc={}", Escaped(self.source))?;
        write!(f, "\tdst={}", Escaped(self.destination))?;
        write!(f, "\tperm={}", self.permission.unwrap_or("null"))?;
        write!(f, "\tproto={}", protocol(self.caller.origin.door))?;
        match self.caller.origin.context.as_deref().filter(|text| self.with_context && !text.is_empty()) {
            Some(context) => write!(f, "\tcallerContext={}", Escaped(Some(context))),
            None => Ok(()),
        }
    }
}

const fn protocol(door: Door) -> &'static str {
    match door {
        Door::Inside => "internal",
        Door::Hadoop => "rpc",
        Door::Http => "webhdfs",
        Door::Grpc => "grpc",
    }
}

/// A user as Hadoop shows it.
struct Who<'a>(&'a Caller);

impl Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = Escaped(Some(&self.0.user));
        match &self.0.origin.real_user {
            Some(real) => write!(f, "{user} (auth:PROXY) via {} (auth:SIMPLE)", Escaped(Some(real))),
            None => write!(f, "{user} (auth:SIMPLE)"),
        }
    }
}

/// An address as Java prints it: of IPv6 no part is left out.
struct JavaAddress(IpAddr);

impl Display for JavaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => {
                let [first, rest @ ..] = address.segments();
                write!(f, "{first:x}")?;
                rest.iter().try_for_each(|segment| write!(f, ":{segment:x}"))
            }
        }
    }
}

/// A text from outside: what is not plain is written as Java writes it, so that no text ends a field or a line.
struct Escaped<'a>(Option<&'a str>);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(text) = self.0 else { return f.write_str("null") };
        for c in text.chars().take(MAX_PATH_CHARS) {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\u{8}' => f.write_str("\\b")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\u{c}' => f.write_str("\\f")?,
                '\r' => f.write_str("\\r")?,
                ' '..='\u{7e}' => f.write_char(c)?,
                _ => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().try_for_each(|unit| write!(f, "\\u{unit:04X}"))?;
                }
            }
        }
        Ok(())
    }
}

/// Owner, group and mode as `perm=` has them.
pub(in crate::service) fn permission(inode: &Inode) -> String {
    let mut out = format!("{}:{}:", Escaped(Some(&inode.owner)), Escaped(Some(&inode.group)));
    let mode = inode.mode;
    for (shift, name) in [(6, ""), (3, ""), (0, "t")] {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        let sticky =
            !name.is_empty() && mode & 0o1000 != 0 && matches!(inode.kind, InodeKind::Directory { .. });
        out.push(match (bits & 1 != 0, sticky) {
            (true, true) => 't',
            (false, true) => 'T',
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use steadfs_namenode_core::command::Origin;

    use super::*;

    fn caller(address: Option<IpAddr>, origin: Origin) -> Caller {
        Caller { user: "ann".into(), groups: Vec::new(), superuser: false, address, origin }
    }

    fn line(caller: &Caller, source: Option<&str>, permission: Option<&str>) -> String {
        let line = Line {
            allowed: true,
            caller,
            command: "mkdirs",
            source,
            destination: None,
            permission,
            with_context: true,
        };
        line.to_string()
    }

    #[test]
    fn a_line_is_as_hdfs_writes_it() {
        let origin = Origin { real_user: None, context: Some("ctx1:sig".into()), door: Door::Hadoop };
        let plain = caller(Some([127, 0, 0, 1].into()), origin);
        assert_eq!(
            line(&plain, Some("/t"), Some("root:supergroup:rwxr-xr-x")),
            "allowed=true\tugi=ann (auth:SIMPLE)\tip=/127.0.0.1\tcmd=mkdirs\tsrc=/t\tdst=null\t\
             perm=root:supergroup:rwxr-xr-x\tproto=rpc\tcallerContext=ctx1:sig"
        );
        let origin = Origin { real_user: Some("oozie".into()), context: None, door: Door::Http };
        let proxied = caller(Some("::1".parse().unwrap()), origin);
        assert_eq!(
            line(&proxied, None, None),
            "allowed=true\tugi=ann (auth:PROXY) via oozie (auth:SIMPLE)\tip=/0:0:0:0:0:0:0:1\tcmd=mkdirs\tsrc=null\t\
             dst=null\tperm=null\tproto=webhdfs"
        );
    }

    #[test]
    fn no_text_ends_a_field() {
        let origin = Origin { context: Some("a\tb".into()), ..Origin::default() };
        let odd = line(&caller(None, origin), Some("/a\nb\tc\"\\\u{1}ü😀"), None);
        assert!(odd.contains("\tsrc=/a\\nb\\tc\\\"\\\\\\u0001\\u00FC\\uD83D\\uDE00\t"), "{odd}");
        assert!(odd.ends_with("callerContext=a\\tb"), "{odd}");
        assert!(!odd.contains('\n'));
    }
}
