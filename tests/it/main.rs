//! The integration tests, in one binary: real servers, the real program, whole journeys.

mod alerts;
mod chain;
mod corpus;
mod daemon;
mod demo;
mod drills;
mod facts;
mod faults_snapshot;
mod faults_tamper;
mod faults_targets;
mod freshness;
mod immutability;
mod journey_postgres;
mod listed;
mod memory;
mod places;
mod prune;
mod support;
mod sync;
mod systemd;
mod target_conformance;
mod target_faults;
mod target_tls;
mod terminal;
mod values;
mod web;
