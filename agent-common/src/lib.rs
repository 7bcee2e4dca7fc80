//! What both sides of the ring buffer share.
#![no_std]
