//! Who takes part.

use curfew_bench::Result;
use curfew_bench::limit::Limit;

use crate::contender::Contender;
use crate::maps::{Dash, Papaya, Quick, Scc};
use crate::ours::{Curfew, Keyed};
use crate::timers::{Delayed, Moka};
use crate::wheel::{Alone, Wheeled};

/// Everyone, by the name in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Who {
    Curfew,
    CurfewHuge,
    /// Told of each step some steps ahead, as who has several requests at hand can tell it. What is
    /// measured of single touches is as with `Curfew`.
    CurfewAhead,
    Limit,
    LimitHuge,
    DashmapAlone,
    DashmapWheel,
    PapayaWheel,
    SccWheel,
    QuickCacheWheel,
    DashmapDelayqueue,
    Moka,
    MokaExpiry,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Curfew => "Curfew",
            Who::CurfewHuge => "Curfew, 2 MiB pages",
            Who::CurfewAhead => "Curfew, asked ahead",
            Who::Limit => "the limit",
            Who::LimitHuge => "the limit, 2 MiB pages",
            Who::DashmapAlone => "dashmap, no expiry",
            Who::DashmapWheel => "dashmap + wheel",
            Who::PapayaWheel => "papaya + wheel",
            Who::SccWheel => "scc + wheel",
            Who::QuickCacheWheel => "quick_cache + wheel",
            Who::DashmapDelayqueue => "dashmap + DelayQueue",
            Who::Moka => "moka, time_to_idle",
            Who::MokaExpiry => "moka, Expiry",
        }
    }

    /// Whether it forgets what has ended.
    pub(crate) fn expires(self) -> bool {
        !matches!(self, Who::Limit | Who::LimitHuge | Who::DashmapAlone)
    }

    /// Whether it goes by a clock of its own, in real time.
    pub(crate) fn has_a_clock(self) -> bool {
        matches!(self, Who::Moka | Who::MokaExpiry)
    }

    pub(crate) fn make<K: Keyed>(self, capacity: usize) -> Result<Box<dyn Contender<K>>> {
        Ok(match self {
            Who::Curfew => Box::new(Curfew::new(capacity, false)?),
            Who::CurfewHuge => Box::new(Curfew::new(capacity, true)?),
            Who::CurfewAhead => Box::new(Curfew::new(capacity, false)?.ahead()),
            Who::Limit => Box::new(Limit::new(capacity, false)?),
            Who::LimitHuge => Box::new(Limit::new(capacity, true)?),
            Who::DashmapAlone => Box::new(Alone(Dash::new(capacity))),
            Who::DashmapWheel => Box::new(Wheeled::new(Dash::new(capacity))),
            Who::PapayaWheel => Box::new(Wheeled::new(Papaya::new(capacity))),
            Who::SccWheel => Box::new(Wheeled::new(Scc::new(capacity))),
            Who::QuickCacheWheel => Box::new(Wheeled::new(Quick::new(capacity))),
            Who::DashmapDelayqueue => Box::new(Delayed::new(capacity)?),
            Who::Moka => Box::new(Moka::idle(capacity)),
            Who::MokaExpiry => Box::new(Moka::expiring(capacity)),
        })
    }
}
