//! The intercepted destinations and their services.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32};

use nightgate_model::{
    configs::{EndToEndMethod, EndToEndV1, Protocol},
    entity::Service,
    id::ServiceId,
};
use nightgate_packet::protocol;
use nightgate_ruleset::InterceptImage;

use super::{DialPlan, Sources};
use crate::{dns::NameTable, hosted::HostedTable};

/// The number by which the kernel knows a service. Not given to another service while the process
/// runs, so that a flow's tag never names the wrong one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ServiceTag(NonZeroU32);

/// A service that is intercepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InterceptedService {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Its number in the kernel's tables.
    pub tag: ServiceTag,
    /// Whether both ends must encrypt.
    pub encryption: Encryption,
    /// Whether what a client sends first may go with the dial.
    pub early_data: bool,
    /// How it is dialed.
    pub dial: DialPlan,
    /// Clients that may use it.
    pub sources: Sources,
}

/// Whether a service's circuits are encrypted end to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// Both ends must encrypt.
    Required,
    /// Both ends must encrypt; with a host that is not ours, by OpenZiti's method in its AES-GCM form.
    AesGcm,
    /// Both ends must encrypt by our own method, and prove who they are.
    Native,
    /// The circuit carries plaintext inside the links' TLS.
    Off,
}

/// Everything that is intercepted at one time.
#[derive(Clone, Debug, Default)]
pub struct InterceptTable {
    image: InterceptImage,
    services: BTreeMap<u32, InterceptedService>,
    names: NameTable,
    /// Name of the identity that dials.
    dialer: String,
    hosted: HostedTable,
}

impl Encryption {
    /// What the controller says about a service.
    pub fn of(service: &Service) -> Self {
        Self::by(&service.config, service.encryption_required)
    }

    /// What the controller says about a service with these documents by type.
    pub fn by(config: &BTreeMap<String, serde_json::Value>, required: bool) -> Self {
        match EndToEndV1::method_of(config) {
            EndToEndMethod::Native => Self::Native,
            EndToEndMethod::AesGcm | EndToEndMethod::Negotiated if !required => Self::Off,
            EndToEndMethod::AesGcm => Self::AesGcm,
            EndToEndMethod::Negotiated => Self::Required,
        }
    }
}

impl InterceptTable {
    pub(crate) fn new(
        image: InterceptImage,
        services: impl IntoIterator<Item = InterceptedService>,
        names: NameTable,
    ) -> Self {
        let services = services.into_iter().map(|service| (service.tag.number(), service));
        Self { image, services: services.collect(), names, ..Self::default() }
    }

    /// Dialed by the identity of this name.
    pub(crate) fn dialed_by(self, dialer: String) -> Self {
        Self { dialer, ..self }
    }

    /// Beside services that are hosted.
    pub(crate) fn beside(self, hosted: HostedTable) -> Self {
        Self { hosted, ..self }
    }

    /// Name of the identity that dials the services; empty if the model does not know it.
    pub(crate) fn dialer(&self) -> &str {
        &self.dialer
    }

    /// What is hosted beside.
    pub fn hosted(&self) -> &HostedTable {
        &self.hosted
    }

    /// Name of the service with this tag, intercepted or hosted.
    pub(crate) fn name_of(&self, tag: u32) -> Option<&str> {
        let intercepted = self.services.get(&tag).map(|service| service.name.as_str());
        intercepted.or_else(|| self.hosted.name_of(tag))
    }

    /// The service whose destination a packet was sent to.
    pub fn service_at(
        &self,
        protocol: Protocol,
        destination: SocketAddr,
    ) -> Option<&InterceptedService> {
        let protocol = match protocol {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
        };
        self.service_of(protocol, destination)
    }

    /// The service whose destination a packet of any IP protocol was sent to: of ICMP queries, the port is type and
    /// code.
    pub fn service_of(&self, protocol: u8, destination: SocketAddr) -> Option<&InterceptedService> {
        let found = self.image.find(protocol, destination.ip().into(), destination.port());
        self.service_tagged(found.service)
    }

    /// The service with this tag.
    pub fn service_tagged(&self, tag: u32) -> Option<&InterceptedService> {
        self.services.get(&tag)
    }

    /// The services that are intercepted.
    pub fn services(&self) -> impl Iterator<Item = &InterceptedService> {
        self.services.values()
    }

    /// The table as the kernel holds it, without mirror sessions.
    pub fn image(&self) -> &InterceptImage {
        &self.image
    }

    /// The names that may be dialed, for the private DNS.
    pub fn names(&self) -> &NameTable {
        &self.names
    }
}

impl ServiceTag {
    /// The tag of this number, which no other service has.
    pub fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    /// The number; never zero.
    pub fn number(self) -> u32 {
        self.0.get()
    }
}
