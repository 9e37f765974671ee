//! The parameters of a WebHDFS URL: names in any case, values checked with Hadoop's messages.

use super::error::RestError;
use super::url::decoded;

/// The longest query that is read, in bytes: room for the sources of a concat.
pub const MAX_QUERY_BYTES: usize = 256 << 10;
/// The most parameters of one query.
pub const MAX_FIELDS: usize = 256;
/// What a number is when it is none.
const NULL: &str = "null";

/// The parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a URL after `?`. Names become lower case.
    ///
    /// # Errors
    /// It is too long, has too many parameters, or is no UTF-8.
    pub fn parse(raw: &str) -> Result<Self, RestError> {
        if raw.len() > MAX_QUERY_BYTES {
            return Err(RestError::argument(format!("The query is longer than {MAX_QUERY_BYTES} bytes")));
        }
        let mut fields = Vec::new();
        for field in raw.split('&').filter(|field| !field.is_empty()) {
            if fields.len() == MAX_FIELDS {
                return Err(RestError::argument(format!("The query has more than {MAX_FIELDS} parameters")));
            }
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let (name, value) = (name.replace('+', " "), value.replace('+', " "));
            fields.push((decoded(&name)?.to_ascii_lowercase(), decoded(&value)?));
        }
        Ok(Self(fields))
    }

    /// The first value of a parameter; empty if it is not there.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// All values of a parameter, in the order they came.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that the operation cannot do without.
    ///
    /// # Errors
    /// It is not there, or empty.
    pub fn required(&self, name: &str, operation: &str) -> Result<&str, RestError> {
        self.optional(name).ok_or_else(|| {
            RestError::argument(format!("Required param {name} for op: {operation} is null or empty"))
        })
    }

    /// A parameter that is not empty.
    #[must_use]
    pub fn optional(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|value| !value.is_empty())
    }

    /// `true` or `false`, in any case.
    ///
    /// # Errors
    /// It is something else.
    pub fn truth(&self, name: &str, default: bool) -> Result<bool, RestError> {
        match self.optional(name) {
            None => Ok(default),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => {
                Err(RestError::parameter(name, &format!("Failed to parse \"{value}\" to Boolean.")))
            }
        }
    }

    /// A whole number of at least `least`; none if it is not there.
    ///
    /// # Errors
    /// It is no number of Java's `long`, or smaller.
    pub fn long(&self, name: &str, least: i64) -> Result<Option<i64>, RestError> {
        let Some(value) = self.optional(name).filter(|value| *value != NULL) else { return Ok(None) };
        let number: i64 = value.parse().map_err(|_| {
            RestError::parameter(name, &format!("Failed to parse \"{value}\" as a radix-10 long integer."))
        })?;
        if number < least {
            let problem = format!("Invalid parameter range: {name} = {number} < {least}");
            return Err(RestError::parameter(name, &problem));
        }
        Ok(Some(number))
    }

    /// A whole number that is not negative; none if it is not there.
    ///
    /// # Errors
    /// As [`Query::long`].
    pub fn unsigned(&self, name: &str, least: u32) -> Result<Option<u64>, RestError> {
        Ok(self.long(name, i64::from(least))?.map(i64::unsigned_abs))
    }

    /// A number of replicas; none if it is not there.
    ///
    /// # Errors
    /// It is no number of Java's `short`, or less than 1.
    pub fn replication(&self) -> Result<Option<u16>, RestError> {
        const NAME: &str = "replication";
        let Some(value) = self.optional(NAME).filter(|value| *value != NULL) else { return Ok(None) };
        let number: i16 = value.parse().map_err(|_| {
            RestError::parameter(NAME, &format!("Failed to parse \"{value}\" as a radix-10 short integer."))
        })?;
        if number < 1 {
            let problem = format!("Invalid parameter range: {NAME} = {number} < 1");
            return Err(RestError::parameter(NAME, &problem));
        }
        Ok(Some(number.unsigned_abs()))
    }

    /// Permission bits in octal.
    ///
    /// # Errors
    /// They are not octal, or more than the sticky bit and rwx three times.
    pub fn permission(&self, default: u16) -> Result<u16, RestError> {
        Ok(self.bits("permission")?.unwrap_or(default))
    }

    /// Permission bits before the caller's umask; none from a caller that did not say.
    ///
    /// # Errors
    /// As [`Query::permission`].
    pub fn unmasked_permission(&self) -> Result<Option<u16>, RestError> {
        self.bits("unmaskedpermission")
    }

    fn bits(&self, name: &str) -> Result<Option<u16>, RestError> {
        const ALL: i16 = 0o1777;
        let Some(value) = self.optional(name).filter(|value| *value != NULL) else { return Ok(None) };
        let bits = i16::from_str_radix(value, 8).map_err(|_| {
            RestError::parameter(name, &format!("Failed to parse \"{value}\" as a radix-8 short integer."))
        })?;
        let problem = match bits {
            0..=ALL => return Ok(Some(bits.unsigned_abs())),
            less if less < 0 => format!("Invalid parameter range: {name} = {value} < 0"),
            _ => format!("Invalid parameter range: {name} = {bits:o} > {ALL:o}"),
        };
        Err(RestError::parameter(name, &problem))
    }

    /// The operation, in upper case, if it is one of these of an HTTP method.
    ///
    /// # Errors
    /// It is not one of them; `NULL is not supported` if there is none.
    pub fn operation(&self, known: &'static [&'static str], method: &str) -> Result<&'static str, RestError> {
        let asked = self.text("op").to_ascii_uppercase();
        if asked.is_empty() || asked == "NULL" {
            return Err(RestError::unsupported("op=NULL"));
        }
        known.iter().find(|name| **name == asked).copied().ok_or_else(|| {
            let shown: String = asked.chars().take(100).collect();
            RestError::parameter("op", &format!("{shown} is not a valid {method} operation."))
        })
    }

    /// Who acts: `user.name`, else the user for those who name none.
    ///
    /// # Errors
    /// The name is not one that Hadoop takes.
    pub fn user(&self) -> Result<&str, RestError> {
        const NAME: &str = "user.name";
        let Some(user) = self.optional(NAME) else { return Ok(super::ANONYMOUS) };
        let base = user.strip_suffix('$').unwrap_or(user);
        let first = base.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if first && base.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
            return Ok(user);
        }
        let shown: String = user.chars().take(100).collect();
        let pattern = "^[A-Za-z_][A-Za-z0-9._-]*[$]?$";
        let problem = format!("Invalid value: \"{shown}\" does not belong to the domain {pattern}");
        Err(RestError::parameter(NAME, &problem))
    }
}

impl Query {
    /// Whose rights the request has, and who makes it if that is another (`doas`). Whether the one may act for the other
    /// is not checked.
    ///
    /// # Errors
    /// As [`Query::user`].
    pub fn actors(&self) -> Result<(&str, Option<&str>), RestError> {
        let user = self.user()?;
        Ok(match self.optional("doas").filter(|other| *other != user) {
            None => (user, None),
            Some(other) => (other, Some(user)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(raw).unwrap()
    }

    #[test]
    fn names_have_any_case_and_values_are_decoded() {
        let query = query("OP=liststatus&User.Name=a&destination=%2Fa%20b+c%C3%BC&x&&sources=1&sources=2");
        assert_eq!(query.text("op"), "liststatus");
        assert_eq!(query.user().unwrap(), "a");
        assert_eq!(query.text("destination"), "/a b cü");
        assert_eq!(query.optional("x"), None);
        assert_eq!(query.text("sources"), "1");
        assert!(Query::parse("a=%ff").is_err());
    }

    #[test]
    fn bad_values_are_refused_in_hadoops_words() {
        let query =
            query("offset=-1&length=x&recursive=maybe&permission=2777&replication=0&user.name=1bad&op=fly");
        let problem = |error: RestError| {
            assert_eq!(error.status(), 400);
            let (_, problem) = error.message().split_once("\": ").unwrap();
            problem.to_owned()
        };
        assert_eq!(problem(query.long("offset", 0).unwrap_err()), "Invalid parameter range: offset = -1 < 0");
        assert_eq!(
            problem(query.long("length", 0).unwrap_err()),
            "Failed to parse \"x\" as a radix-10 long integer."
        );
        assert_eq!(
            problem(query.truth("recursive", false).unwrap_err()),
            "Failed to parse \"maybe\" to Boolean."
        );
        assert_eq!(
            problem(query.permission(0o755).unwrap_err()),
            "Invalid parameter range: permission = 2777 > 1777"
        );
        assert_eq!(problem(query.replication().unwrap_err()), "Invalid parameter range: replication = 0 < 1");
        assert_eq!(
            problem(query.user().unwrap_err()),
            "Invalid value: \"1bad\" does not belong to the domain ^[A-Za-z_][A-Za-z0-9._-]*[$]?$"
        );
        assert_eq!(
            problem(query.operation(&["OPEN"], "GET").unwrap_err()),
            "FLY is not a valid GET operation."
        );
    }

    #[test]
    fn what_is_not_there_has_its_default() {
        let query = query("length=null");
        assert_eq!(query.long("length", 0).unwrap(), None);
        assert_eq!(query.permission(0o644).unwrap(), 0o644);
        assert!(query.truth("createparent", true).unwrap());
        assert_eq!(query.actors().unwrap(), ("dr.who", None));
        assert_eq!(Query::parse("user.name=a&doas=b").unwrap().actors().unwrap(), ("b", Some("a")));
        let error = query.operation(&["OPEN"], "GET").unwrap_err();
        assert_eq!(error.message(), "op=NULL is not supported");
    }

    #[test]
    fn a_query_has_its_bounds() {
        assert!(Query::parse(&"a&".repeat(MAX_FIELDS)).is_ok());
        assert!(Query::parse(&"a&".repeat(MAX_FIELDS + 1)).is_err());
        assert!(Query::parse(&"a".repeat(MAX_QUERY_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_query_is_too_strange(raw in "\\PC*") {
            if let Ok(query) = Query::parse(&raw) {
                let _ = (query.user().is_ok(), query.permission(0).is_ok(), query.long("a", 0).is_ok());
            }
        }
    }
}
