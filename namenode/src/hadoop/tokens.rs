//! Delegation tokens. Where callers are believed their word HDFS gives none, and knows none that it is shown.

use steadfs_common::FsResult;
use steadfs_proto::hadoop::{
    CancelDelegationTokenRequestProto, CancelDelegationTokenResponseProto, GetDelegationTokenRequestProto,
    GetDelegationTokenResponseProto, RenewDelegationTokenRequestProto, RenewDelegationTokenResponseProto,
};
use steadfs_wire::token::DelegationToken;

use super::Asked;
use crate::service::Service;

pub(super) async fn get_delegation_token(
    _asked: Asked,
    _request: GetDelegationTokenRequestProto,
) -> FsResult<GetDelegationTokenResponseProto> {
    Ok(GetDelegationTokenResponseProto { token: None })
}

pub(super) async fn renew_delegation_token(
    asked: Asked,
    request: RenewDelegationTokenRequestProto,
) -> FsResult<RenewDelegationTokenResponseProto> {
    let token = DelegationToken::parse(&request.token.identifier)?;
    Err(asked.service.refused_renewal(&asked.caller, &token))
}

pub(super) async fn cancel_delegation_token(
    _asked: Asked,
    request: CancelDelegationTokenRequestProto,
) -> FsResult<CancelDelegationTokenResponseProto> {
    let token = DelegationToken::parse(&request.token.identifier)?;
    Err(Service::refused_cancellation(&token))
}
