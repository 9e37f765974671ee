//! The calls about volumes of the whole cluster.

use std::collections::{BTreeMap, HashMap};

use steadfs_proto::csi;
use steadfs_proto::csi::controller_server::Controller;
use steadfs_proto::csi::controller_service_capability::{Rpc, Type, rpc};
use tonic::{Request, Response, Status};

use crate::capability::Use;
use crate::handle::{Handle, Key, is_versioned};
use crate::locks::Locks;
use crate::namespace::Namespace;
use crate::parameters::replication;
use crate::status::answer;
use crate::volumes::{Failure, Outcome, Sizes, Volume, Volumes};

/// Volumes on one page at most.
const MAX_PAGE: usize = 500;
/// Longest name of a volume, in bytes: what the interface allows.
const MAX_NAME: usize = 128;
/// Largest map of parameters, in bytes: what the interface allows.
const MAX_PARAMETERS: usize = 4 << 10;

/// What the controller can do.
const CAPABILITIES: [rpc::Type; 7] = [
    rpc::Type::CreateDeleteVolume,
    rpc::Type::ListVolumes,
    rpc::Type::GetCapacity,
    rpc::Type::ExpandVolume,
    rpc::Type::VolumeCondition,
    rpc::Type::GetVolume,
    rpc::Type::SingleNodeMultiWriter,
];

/// The door of the sidecars.
pub(crate) struct ControllerDoor<N> {
    pub(crate) volumes: Volumes<N>,
    pub(crate) locks: Locks,
}

impl<N: Namespace> ControllerDoor<N> {
    async fn create(&self, request: csi::CreateVolumeRequest) -> Outcome<csi::CreateVolumeResponse> {
        let name = &request.name;
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(Failure::Invalid(format!(
                "a volume's name has 1 to {MAX_NAME} bytes and no control characters"
            )));
        }
        uses(&request.volume_capabilities).map_err(Failure::Invalid)?;
        if request.volume_content_source.is_some() {
            return Err(Failure::Invalid("volumes are not made from snapshots or other volumes".into()));
        }
        if !request.mutable_parameters.is_empty() {
            return Err(Failure::Invalid(
                "parameters of volumes cannot be changed: no VolumeAttributesClass".into(),
            ));
        }
        let parameters = bounded(request.parameters)?;
        // By the key, as deletions and growth.
        let _held = self.locks.take(&Key::of(name).to_string())?;
        let volume = self.volumes.create(name, sizes(request.capacity_range)?, &parameters).await?;
        tracing::info!(name, handle = %volume.handle, folder = volume.record.folder, "a volume is there");
        Ok(csi::CreateVolumeResponse { volume: Some(told(&volume)) })
    }

    async fn delete(&self, handle: &str) -> Outcome<csi::DeleteVolumeResponse> {
        required(handle, "volume_id")?;
        // A static volume is the administrator's, and nothing that was ever made has a handle that is none.
        if let Ok(handle) = handle.parse::<Handle>() {
            let _held = self.locks.take(&handle.key.to_string())?;
            self.volumes.delete(&handle).await?;
            tracing::info!(%handle, "a volume is gone");
        }
        Ok(csi::DeleteVolumeResponse {})
    }

    async fn validate(
        &self,
        request: csi::ValidateVolumeCapabilitiesRequest,
    ) -> Outcome<csi::ValidateVolumeCapabilitiesResponse> {
        required(&request.volume_id, "volume_id")?;
        if request.volume_capabilities.is_empty() {
            return Err(Failure::Invalid("volume_capabilities are missing".into()));
        }
        if is_versioned(&request.volume_id) || request.volume_context.is_empty() {
            self.volumes.find(&handle(&request.volume_id)?).await?;
        }
        Ok(match uses(&request.volume_capabilities) {
            Ok(()) => csi::ValidateVolumeCapabilitiesResponse {
                confirmed: Some(csi::validate_volume_capabilities_response::Confirmed {
                    volume_context: request.volume_context,
                    volume_capabilities: request.volume_capabilities,
                    parameters: request.parameters,
                    mutable_parameters: HashMap::new(),
                }),
                message: String::new(),
            },
            Err(message) => csi::ValidateVolumeCapabilitiesResponse { confirmed: None, message },
        })
    }

    async fn list(&self, request: csi::ListVolumesRequest) -> Outcome<csi::ListVolumesResponse> {
        let limit = usize::try_from(request.max_entries)
            .map_err(|_| Failure::Invalid("max_entries is negative".into()))?;
        let limit = if limit == 0 { MAX_PAGE } else { limit.min(MAX_PAGE) };
        let after = match request.starting_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| Failure::Busy(format!("`{token}` is no token of a page")))?,
        };
        let (volumes, next) = self.volumes.list(after, limit).await?;
        let entries = volumes.iter().map(|volume| csi::list_volumes_response::Entry {
            volume: Some(told(volume)),
            status: Some(csi::list_volumes_response::VolumeStatus {
                published_node_ids: Vec::new(),
                volume_condition: Some(well()),
            }),
        });
        Ok(csi::ListVolumesResponse {
            entries: entries.collect(),
            next_token: next.map_or_else(String::new, |next| next.to_string()),
        })
    }

    async fn capacity(&self, request: csi::GetCapacityRequest) -> Outcome<csi::GetCapacityResponse> {
        if let Err(refused) = uses(&request.volume_capabilities)
            && !request.volume_capabilities.is_empty()
        {
            return Err(Failure::Invalid(refused));
        }
        let room = self.volumes.namespace.room().await?;
        let said = request.parameters.get("replication").map(|said| replication(said));
        let replicas =
            u64::from(said.transpose().map_err(Failure::Invalid)?.unwrap_or(room.replication).max(1));
        Ok(csi::GetCapacityResponse {
            available_capacity: signed(room.remaining / replicas),
            maximum_volume_size: Some(signed(room.capacity / replicas)),
            minimum_volume_size: None,
        })
    }

    async fn expand(
        &self,
        request: csi::ControllerExpandVolumeRequest,
    ) -> Outcome<csi::ControllerExpandVolumeResponse> {
        required(&request.volume_id, "volume_id")?;
        if request.capacity_range.is_none() {
            return Err(Failure::Invalid("capacity_range is missing".into()));
        }
        if request.volume_capability.is_some() {
            Use::read(request.volume_capability.as_ref()).map_err(Failure::Invalid)?;
        }
        let handle = handle(&request.volume_id)?;
        let _held = self.locks.take(&handle.key.to_string())?;
        let capacity = self.volumes.expand(&handle, sizes(request.capacity_range)?).await?;
        tracing::info!(%handle, capacity, "a volume has this size");
        // A quota counts at once, on every node.
        Ok(csi::ControllerExpandVolumeResponse {
            capacity_bytes: signed(capacity),
            node_expansion_required: false,
        })
    }

    async fn get(&self, id: &str) -> Outcome<csi::ControllerGetVolumeResponse> {
        required(id, "volume_id")?;
        let volume = self.volumes.find(&handle(id)?).await?;
        let place = self.volumes.namespace.stat(&volume.record.folder).await?;
        let moved = place.is_none_or(|place| place.inode != volume.handle.inode);
        let condition = if moved {
            csi::VolumeCondition {
                abnormal: true,
                message: format!(
                    "the folder is no longer at {}: somebody has renamed it",
                    volume.record.folder
                ),
            }
        } else {
            well()
        };
        Ok(csi::ControllerGetVolumeResponse {
            volume: Some(told(&volume)),
            status: Some(csi::controller_get_volume_response::VolumeStatus {
                published_node_ids: Vec::new(),
                volume_condition: Some(condition),
            }),
        })
    }
}

fn well() -> csi::VolumeCondition {
    csi::VolumeCondition { abnormal: false, message: "the folder is there".into() }
}

/// A volume as Kubernetes keeps it. The context is for people: nodes look everything up by the handle.
fn told(volume: &Volume) -> csi::Volume {
    csi::Volume {
        capacity_bytes: volume.capacity.map_or(0, signed),
        volume_id: volume.handle.to_string(),
        volume_context: HashMap::from([("folder".to_owned(), volume.record.folder.clone())]),
        content_source: None,
        accessible_topology: Vec::new(),
    }
}

pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(crate) fn required(value: &str, name: &str) -> Outcome<()> {
    if value.is_empty() { Err(Failure::Invalid(format!("{name} is missing"))) } else { Ok(()) }
}

pub(crate) fn handle(text: &str) -> Outcome<Handle> {
    text.parse().map_err(|_| Failure::NotFound(format!("there is no volume {text}")))
}

fn uses(capabilities: &[csi::VolumeCapability]) -> Result<(), String> {
    if capabilities.is_empty() {
        return Err("volume_capabilities are missing".into());
    }
    capabilities.iter().try_for_each(|capability| Use::read(Some(capability)).map(|_| ()))
}

pub(crate) fn bounded(map: HashMap<String, String>) -> Outcome<BTreeMap<String, String>> {
    if map.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_PARAMETERS {
        return Err(Failure::Invalid(format!("parameters are longer than {MAX_PARAMETERS} bytes")));
    }
    Ok(map.into_iter().collect())
}

fn sizes(range: Option<csi::CapacityRange>) -> Outcome<Sizes> {
    let range = range.unwrap_or_default();
    let bytes = |bytes: i64| match u64::try_from(bytes) {
        Ok(0) => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(Failure::Invalid("a size is negative".into())),
    };
    Ok(Sizes { required: bytes(range.required_bytes)?, limit: bytes(range.limit_bytes)? })
}

#[tonic::async_trait]
impl<N: Namespace> Controller for ControllerDoor<N> {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Result<Response<csi::CreateVolumeResponse>, Status> {
        answer(self.create(request.into_inner()).await)
    }

    async fn delete_volume(
        &self,
        request: Request<csi::DeleteVolumeRequest>,
    ) -> Result<Response<csi::DeleteVolumeResponse>, Status> {
        answer(self.delete(&request.into_inner().volume_id).await)
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<csi::ValidateVolumeCapabilitiesResponse>, Status> {
        answer(self.validate(request.into_inner()).await)
    }

    async fn list_volumes(
        &self,
        request: Request<csi::ListVolumesRequest>,
    ) -> Result<Response<csi::ListVolumesResponse>, Status> {
        answer(self.list(request.into_inner()).await)
    }

    async fn get_capacity(
        &self,
        request: Request<csi::GetCapacityRequest>,
    ) -> Result<Response<csi::GetCapacityResponse>, Status> {
        answer(self.capacity(request.into_inner()).await)
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<csi::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<csi::ControllerGetCapabilitiesResponse>, Status> {
        let capability = |kind: rpc::Type| csi::ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })),
        };
        let capabilities = CAPABILITIES.into_iter().map(capability).collect();
        Ok(Response::new(csi::ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<csi::ControllerExpandVolumeRequest>,
    ) -> Result<Response<csi::ControllerExpandVolumeResponse>, Status> {
        answer(self.expand(request.into_inner()).await)
    }

    async fn controller_get_volume(
        &self,
        request: Request<csi::ControllerGetVolumeRequest>,
    ) -> Result<Response<csi::ControllerGetVolumeResponse>, Status> {
        answer(self.get(&request.into_inner().volume_id).await)
    }
}
