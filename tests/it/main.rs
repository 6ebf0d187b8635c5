//! The integration tests, in one binary: real servers, the real program, whole journeys.

mod architecture;
mod journey_postgres;
mod support;
mod target_conformance;
mod target_faults;
