//! Errors as WebHDFS tells them: a status and a `RemoteException`.

use steadfs_common::{FsError, FsErrorKind};

const BAD_REQUEST: u16 = 400;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;

/// An error and how it is answered. A stock client throws the class that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestError {
    status: u16,
    class: &'static str,
    message: String,
}

impl From<FsError> for RestError {
    fn from(error: FsError) -> Self {
        let class = error.kind().hadoop_class();
        Self { status: status_of(error.kind()), class, message: error.message().to_owned() }
    }
}

/// Hadoop's rule: a file that is not found, an argument, an operation; all other `IOException`s are alike.
const fn status_of(kind: FsErrorKind) -> u16 {
    match kind {
        FsErrorKind::NotFound | FsErrorKind::IsADirectory => NOT_FOUND,
        FsErrorKind::InvalidPath
        | FsErrorKind::InvalidArgument
        | FsErrorKind::IllegalArgument
        | FsErrorKind::Unsupported => BAD_REQUEST,
        _ => FORBIDDEN,
    }
}

impl RestError {
    /// An argument that makes no sense (400).
    #[must_use]
    pub fn argument(message: impl Into<String>) -> Self {
        Self { status: BAD_REQUEST, class: "java.lang.IllegalArgumentException", message: message.into() }
    }

    /// A parameter whose value makes no sense (400), in Hadoop's words.
    #[must_use]
    pub fn parameter(name: &str, problem: &str) -> Self {
        Self::argument(format!("Invalid value for webhdfs parameter \"{name}\": {problem}"))
    }

    /// An operation that is not there (400).
    #[must_use]
    pub fn unsupported(operation: &str) -> Self {
        FsError::new(FsErrorKind::Unsupported, format!("{operation} is not supported")).into()
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body of the answer.
    #[must_use]
    pub fn json(&self) -> String {
        // Java's simple name: without the package and without the class around it.
        let simple = self.class.rsplit(['.', '$']).next().unwrap_or(self.class);
        serde_json::json!({ "RemoteException": {
            "exception": simple,
            "javaClassName": self.class,
            "message": self.message,
        }})
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_errors_is_hadoops() {
        let not_found = RestError::from(FsError::not_found("/x"));
        assert_eq!(
            (not_found.status(), not_found.json().as_str()),
            (
                404,
                r#"{"RemoteException":{"exception":"FileNotFoundException","javaClassName":"java.io.FileNotFoundException","message":"File does not exist: /x"}}"#
            )
        );
        for kind in FsErrorKind::ALL {
            let error = RestError::from(FsError::new(*kind, "why"));
            let class = kind.hadoop_class();
            let expected = match class {
                "java.io.FileNotFoundException" => 404,
                "java.lang.UnsupportedOperationException"
                | "java.lang.IllegalArgumentException"
                | "org.apache.hadoop.HadoopIllegalArgumentException"
                | "org.apache.hadoop.fs.InvalidPathException" => 400,
                _ => 403,
            };
            assert_eq!(error.status(), expected, "{class}");
        }
    }

    #[test]
    fn inner_classes_have_their_own_name() {
        let json = RestError::from(FsError::name_too_long("x")).json();
        assert!(json.contains(r#""exception":"PathComponentTooLongException""#), "{json}");
        assert!(json.contains(r#"FSLimitException$PathComponentTooLongException"#), "{json}");
        assert_eq!(
            RestError::parameter("op", "no").message(),
            "Invalid value for webhdfs parameter \"op\": no"
        );
    }
}
