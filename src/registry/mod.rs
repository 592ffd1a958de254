//! The distribution protocol and OCI layouts.
