//! Delegation tokens. Where callers are believed their word HDFS gives none, and knows none that it is shown.

use std::time::{Duration, UNIX_EPOCH};

use steadfs_common::{FsError, FsErrorKind, Millis};
use steadfs_namenode_core::Caller;
use steadfs_wire::token::DelegationToken;

use super::Service;

impl Service {
    /// Why a token is not renewed.
    #[must_use]
    pub fn refused_renewal(&self, caller: &Caller, token: &DelegationToken) -> FsError {
        not_renewed(token, &caller.user, self.now())
    }

    /// Why a token is not cancelled.
    #[must_use]
    pub fn refused_cancellation(token: &DelegationToken) -> FsError {
        invalid(format!("Token not found {token}"))
    }
}

/// Why a token that was never given out is not renewed: HDFS looks at what it says of itself first.
fn not_renewed(token: &DelegationToken, user: &str, now: Millis) -> FsError {
    let latest = u64::try_from(token.max_date).unwrap_or(0);
    if latest < now.0 {
        return invalid(format!(
            "{user} tried to renew an expired token {token} max expiration date: {} currentTime: {}",
            time(Millis(latest)),
            time(now)
        ));
    }
    if token.renewer.is_empty() {
        return FsError::denied(format!("{user} tried to renew a token {token} without a renewer"));
    }
    if token.renewer != user {
        return FsError::denied(format!(
            "{user} tries to renew a token {token} with non-matching renewer {}",
            token.renewer
        ));
    }
    invalid(format!("Renewal request for unknown token {token}"))
}

fn invalid(message: String) -> FsError {
    FsError::new(FsErrorKind::InvalidToken, message)
}

/// `2026-11-21 05:35:40,965+0000`.
fn time(at: Millis) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at.0.min(MAX_SHOWN_MS));
    let text = humantime::format_rfc3339_millis(at).to_string();
    text.replace('T', " ").replace('.', ",").replace('Z', "+0000")
}

/// The last time that can be shown: the end of the year 9999.
const MAX_SHOWN_MS: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn token(renewer: &str, max_date: i64) -> DelegationToken {
        DelegationToken { owner: "ann".into(), renewer: renewer.into(), max_date, ..Default::default() }
    }

    #[test]
    fn what_a_strange_token_says_of_itself_decides_what_is_said_of_it() {
        let now = Millis(1_795_239_340_965);
        let said = |token, user| not_renewed(&token, user, now);
        let expired = said(token("ann", 0), "ann");
        assert_eq!(expired.kind(), FsErrorKind::InvalidToken);
        assert_eq!(
            expired.message(),
            "ann tried to renew an expired token (token for ann: HDFS_DELEGATION_TOKEN owner=ann, renewer=ann, \
             realUser=, issueDate=0, maxDate=0, sequenceNumber=0, masterKeyId=0) max expiration date: 1970-01-01 \
             00:00:00,000+0000 currentTime: 2026-11-21 05:35:40,965+0000"
        );
        assert_eq!(said(token("ann", i64::MAX), "bob").kind(), FsErrorKind::AccessDenied);
        assert_eq!(said(token("", i64::MAX), "bob").kind(), FsErrorKind::AccessDenied);
        let unknown = said(token("ann", i64::MAX), "ann");
        assert!(
            unknown.message().starts_with("Renewal request for unknown token (token for ann"),
            "{unknown}"
        );
        assert_eq!(time(Millis(u64::MAX)), "9999-12-31 23:59:59,999+0000");
    }
}
