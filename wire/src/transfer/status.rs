//! The statuses and stages of the protocol, by Hadoop's numbers.

/// How an operation, or one node's part of it, went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Status {
    /// It went well.
    Success = 0,
    /// It failed; the message says why.
    Error = 1,
    /// Bytes did not match their checksums.
    ErrorChecksum = 2,
    /// The request makes no sense.
    ErrorInvalid = 3,
    /// There is such a replica already.
    ErrorExists = 4,
    /// The block token is missing, wrong or expired.
    ErrorAccessToken = 5,
    /// A reader verified all it got.
    ChecksumOk = 6,
    /// This server does not do that.
    ErrorUnsupported = 7,
    /// The datanode is about to restart.
    OobRestart = 8,
    /// Reserved.
    OobReserved1 = 9,
    /// Reserved.
    OobReserved2 = 10,
    /// Reserved.
    OobReserved3 = 11,
    /// Still at it; the answer follows.
    InProgress = 12,
    /// The replica must not be moved.
    ErrorBlockPinned = 13,
}

impl Status {
    const ALL: [Self; 14] = [
        Self::Success,
        Self::Error,
        Self::ErrorChecksum,
        Self::ErrorInvalid,
        Self::ErrorExists,
        Self::ErrorAccessToken,
        Self::ChecksumOk,
        Self::ErrorUnsupported,
        Self::OobRestart,
        Self::OobReserved1,
        Self::OobReserved2,
        Self::OobReserved3,
        Self::InProgress,
        Self::ErrorBlockPinned,
    ];

    /// Hadoop's number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The status with Hadoop's number. One that this version does not know is an [`Status::Error`].
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|index| Self::ALL.get(index)).copied().unwrap_or(Self::Error)
    }

    /// Whether the node did its part.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Success | Self::ChecksumOk)
    }
}

/// What a `WRITE_BLOCK` begins (`BlockConstructionStage`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Open a finalized replica for appending.
    SetupAppend = 0,
    /// The same, after a failure: the replica may have been opened already.
    SetupAppendRecovery = 1,
    /// Never on the wire.
    DataStreaming = 2,
    /// Go on with a replica being written, after a failure.
    SetupStreamingRecovery = 3,
    /// Never on the wire.
    Close = 4,
    /// Finalize the replica, after a failure; no packets follow.
    CloseRecovery = 5,
    /// A new replica.
    SetupCreate = 6,
    /// A copy of a replica that is being written.
    TransferRbw = 7,
    /// A copy of a finalized replica.
    TransferFinalized = 8,
}

impl Stage {
    const ALL: [Self; 9] = [
        Self::SetupAppend,
        Self::SetupAppendRecovery,
        Self::DataStreaming,
        Self::SetupStreamingRecovery,
        Self::Close,
        Self::CloseRecovery,
        Self::SetupCreate,
        Self::TransferRbw,
        Self::TransferFinalized,
    ];

    /// Hadoop's number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The stage with Hadoop's number.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        usize::try_from(number).ok().and_then(|index| Self::ALL.get(index)).copied()
    }

    /// Whether a datanode copies one of its replicas: no connect ack, no ack per packet, one ack at the end.
    #[must_use]
    pub const fn is_transfer(self) -> bool {
        matches!(self, Self::TransferRbw | Self::TransferFinalized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hadoops() {
        for (number, status) in Status::ALL.iter().enumerate() {
            assert_eq!(status.number(), number as i32);
            assert_eq!(Status::from_number(number as i32), *status);
        }
        assert_eq!(Status::from_number(99), Status::Error);
        assert_eq!(Status::from_number(-1), Status::Error);
        for (number, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(stage.number(), number as i32);
            assert_eq!(Stage::from_number(number as i32), Some(*stage));
        }
        assert_eq!(Stage::from_number(9), None);
    }
}
