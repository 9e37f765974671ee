//! SASL as a server speaks it that lets everybody in on their word.
//!
//! A client that holds any token opens with SASL even where nothing is secured. It asks what the server wants, hears
//! "nothing more", and goes on with the connection context.

use bytes::Bytes;
use prost::Message;
use steadfs_proto::hadoop::rpc_sasl_proto::SaslState;
use steadfs_proto::hadoop::{RpcSaslProto, decode};

use super::request::{Fatal, take_delimited};

const SASL_EXCEPTION: &str = "javax.security.sasl.SaslException";

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SaslSteps {
    /// The client has asked nothing yet.
    #[default]
    Begun,
    /// The client was told that its word is enough.
    Done,
}

/// What a step asks of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SaslStep {
    /// Answer with this message.
    Answer(Bytes),
    /// Say nothing: the client goes on without waiting.
    Silent,
}

impl SaslSteps {
    /// Whether the connection context may come.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes the client's next step.
    ///
    /// # Errors
    /// The step is out of order, wants a mechanism that is not offered, or cannot be read.
    pub fn step(&mut self, mut body: Bytes) -> Result<SaslStep, Fatal> {
        let refused = |message: &str| Fatal::unauthorized(SASL_EXCEPTION, message);
        let message =
            take_delimited(&mut body).ok_or_else(|| Fatal::unreadable("the SASL message is cut off"))?;
        let message: RpcSaslProto = decode(message).map_err(|error| Fatal::unreadable(error.message()))?;
        match (*self, SaslState::try_from(message.state)) {
            (Self::Begun, Ok(SaslState::Negotiate)) => {
                *self = Self::Done;
                let answer = RpcSaslProto { state: SaslState::Success as i32, ..Default::default() };
                Ok(SaslStep::Answer(answer.encode_to_vec().into()))
            }
            (Self::Begun, Ok(SaslState::Initiate)) if matches!(&message.auths[..], [auth] if auth.method == "SIMPLE") =>
            {
                *self = Self::Done;
                Ok(SaslStep::Silent)
            }
            (Self::Begun, Ok(SaslState::Initiate)) => Err(refused("Only SIMPLE authentication is offered")),
            (Self::Done, Ok(SaslState::Negotiate | SaslState::Initiate)) => {
                Err(refused("Client already attempted negotiation"))
            }
            (_, Ok(state)) => Err(refused(&format!("SASL state {} out of order", state.as_str_name()))),
            (_, Err(_)) => Err(refused(&format!("SASL state {} does not exist", message.state))),
        }
    }
}
