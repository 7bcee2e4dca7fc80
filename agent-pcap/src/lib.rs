//! Capture files as a source of connection events.
