//! The lab LAN as plain data: addresses, links, link faults and partitions.

pub mod address;
mod link;
mod mac;
mod partition;
mod plan;
mod public;
mod quantity;

pub use link::{Impairment, ImpairmentError, Link, LinkFault, UPLINK};
pub use mac::{InvalidMac, MacAddr};
pub use partition::{Partition, PartitionError, Sides, UplinkSide};
pub use plan::{Attachment, LanPlan, LanPlanError};
pub use public::{is_public, may_be_public};
pub use quantity::{Delay, InvalidQuantity, Loss, Rate};
