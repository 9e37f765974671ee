//! Who this is.

use steadfs_proto::csi;
use steadfs_proto::csi::identity_server::Identity;
use steadfs_proto::csi::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use tonic::{Request, Response, Status};

/// The driver, to whom asks.
pub(crate) struct IdentityDoor {
    pub(crate) driver: String,
    /// Whether this process makes and deletes volumes.
    pub(crate) controller: bool,
}

#[tonic::async_trait]
impl Identity for IdentityDoor {
    async fn get_plugin_info(
        &self,
        _: Request<csi::GetPluginInfoRequest>,
    ) -> Result<Response<csi::GetPluginInfoResponse>, Status> {
        Ok(Response::new(csi::GetPluginInfoResponse {
            name: self.driver.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: Default::default(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<csi::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<csi::GetPluginCapabilitiesResponse>, Status> {
        let service = |kind: service::Type| csi::PluginCapability {
            r#type: Some(Type::Service(Service { r#type: kind.into() })),
        };
        let mut capabilities = vec![service(service::Type::VolumeAccessibilityConstraints)];
        if self.controller {
            capabilities.push(service(service::Type::ControllerService));
        }
        let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
        capabilities.push(csi::PluginCapability { r#type: Some(Type::VolumeExpansion(online)) });
        Ok(Response::new(csi::GetPluginCapabilitiesResponse { capabilities }))
    }

    /// Ready also while the cluster is away: starting this process again would not bring it back.
    async fn probe(&self, _: Request<csi::ProbeRequest>) -> Result<Response<csi::ProbeResponse>, Status> {
        Ok(Response::new(csi::ProbeResponse { ready: Some(true) }))
    }
}
