//! SETTINGS that bind what is sent (RFC 9113 § 6.5).

/// A setting that one end announces, and the other has to keep to once it has acknowledged it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    acknowledged: u32,
    /// The largest and the last of those not acknowledged yet.
    largest: u32,
    last: Option<u32>,
}

impl Setting {
    pub(super) fn new(acknowledged: u32) -> Setting {
        Setting {
            acknowledged,
            largest: 0,
            last: None,
        }
    }

    pub(super) fn announce(&mut self, value: u32) {
        self.largest = self.largest.max(value);
        self.last = Some(value);
    }

    pub(super) fn acknowledge(&mut self) {
        *self = Setting::new(self.last.unwrap_or(self.acknowledged));
    }

    /// Whether the sender may go as far as `value`: it may have received what it has not acknowledged.
    pub(super) fn allows(&self, value: u32) -> bool {
        value <= self.acknowledged.max(self.largest)
    }
}

/// The settings that bind a flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) table_size: Setting,
    pub(super) frame_size: Setting,
    /// SETTINGS that the sender of the flow has not acknowledged yet.
    pub(super) unacknowledged: u32,
}

impl Bounds {
    /// Those at the beginning of a connection (RFC 9113 § 6.5.2).
    pub(super) fn initial() -> Bounds {
        Bounds {
            table_size: Setting::new(4096),
            frame_size: Setting::new(1 << 14),
            unacknowledged: 0,
        }
    }
}
