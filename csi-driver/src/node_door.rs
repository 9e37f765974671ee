//! The door of the kubelet.

use std::sync::Arc;

use steadfs_proto::csi;
use steadfs_proto::csi::node_server::Node as NodeService;
use steadfs_proto::csi::node_service_capability::{Rpc, Type, rpc};
use tonic::{Request, Response, Status};

use crate::namespace::Namespace;
use crate::node::Node;
use crate::status::answer;

/// What the node can do.
const CAPABILITIES: [rpc::Type; 5] = [
    rpc::Type::StageUnstageVolume,
    rpc::Type::GetVolumeStats,
    rpc::Type::VolumeCondition,
    rpc::Type::SingleNodeMultiWriter,
    rpc::Type::VolumeMountGroup,
];

pub(crate) struct NodeDoor<N>(pub(crate) Arc<Node<N>>);

#[tonic::async_trait]
impl<N: Namespace> NodeService for NodeDoor<N> {
    async fn node_stage_volume(
        &self,
        request: Request<csi::NodeStageVolumeRequest>,
    ) -> Result<Response<csi::NodeStageVolumeResponse>, Status> {
        let (node, request) = (self.0.clone(), request.into_inner());
        // To its end, also when the kubelet stops waiting.
        answer(
            carried(async move { node.stage(request).await }).await.map(|()| csi::NodeStageVolumeResponse {}),
        )
    }

    async fn node_unstage_volume(
        &self,
        request: Request<csi::NodeUnstageVolumeRequest>,
    ) -> Result<Response<csi::NodeUnstageVolumeResponse>, Status> {
        let (node, request) = (self.0.clone(), request.into_inner());
        answer(
            carried(async move { node.unstage(request).await })
                .await
                .map(|()| csi::NodeUnstageVolumeResponse {}),
        )
    }

    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Result<Response<csi::NodePublishVolumeResponse>, Status> {
        let (node, request) = (self.0.clone(), request.into_inner());
        answer(
            carried(async move { node.publish(request).await })
                .await
                .map(|()| csi::NodePublishVolumeResponse {}),
        )
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<csi::NodeUnpublishVolumeResponse>, Status> {
        let (node, request) = (self.0.clone(), request.into_inner());
        let done = carried(async move { node.unpublish(request).await }).await;
        answer(done.map(|()| csi::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<csi::NodeGetVolumeStatsResponse>, Status> {
        answer(self.0.stats(request.into_inner()).await)
    }

    async fn node_expand_volume(
        &self,
        _: Request<csi::NodeExpandVolumeRequest>,
    ) -> Result<Response<csi::NodeExpandVolumeResponse>, Status> {
        Err(Status::unimplemented("nothing is to be done on nodes: a quota counts everywhere at once"))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<csi::NodeGetCapabilitiesResponse>, Status> {
        let capability = |kind: rpc::Type| csi::NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })),
        };
        let capabilities = CAPABILITIES.into_iter().map(capability).collect();
        Ok(Response::new(csi::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<csi::NodeGetInfoRequest>,
    ) -> Result<Response<csi::NodeGetInfoResponse>, Status> {
        Ok(Response::new(self.0.info()))
    }
}

/// Runs `work` to its end whoever waits for it.
async fn carried<T: Send + 'static>(
    work: impl Future<Output = crate::volumes::Outcome<T>> + Send + 'static,
) -> crate::volumes::Outcome<T> {
    tokio::spawn(work).await.unwrap_or_else(|stopped| Err(anyhow::Error::from(stopped).into()))
}
