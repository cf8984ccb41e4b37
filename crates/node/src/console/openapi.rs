//! The OpenAPI document of what programs ask for. Forms that people post are not part of it.

use serde_json::{json, Value};

/// Path, what it gives, the schema of its answer; none: text.
const READ: &[(&str, &str, Option<&str>)] = &[
    ("/status.json", "This node's status, with a page of files", Some("Status")),
    ("/vcenter.json", "What the vCenter agent knows; null on nodes where it does not work", Some("Any")),
    ("/metrics", "Figures in Prometheus' text format", None),
    ("/healthz", "The process lives", None),
    ("/livez", "The process lives", None),
    ("/readyz", "Every role of the node serves; 503 and the reason if not", None),
    ("/api/v1/health", "The cluster's health, with the checks that it follows from", Some("Health")),
    ("/api/v1/alerts", "Alerts of this node, pending and resolved ones among them", Some("Alerts")),
    ("/api/v1/incidents", "Incidents, open and closed", Some("Incidents")),
    ("/api/v1/silences", "Silences and maintenances", Some("Silences")),
    ("/api/v1/audit", "Orders of administrators, newest first, and the nodes that did not answer", Some("Audit")),
    ("/api/v1/rules", "The catalogue of alerts with the thresholds that hold", Some("Rules")),
    ("/api/v1/samples", "Figures of the last hour, day or month", Some("Samples")),
    ("/api/v1/openapi.json", "This document", Some("Any")),
    ("/api/v2/alerts", "Firing alerts as Alertmanager's clients expect them", Some("GettableAlerts")),
];

fn list_of(name: &str, of: &str) -> Value {
    json!({
        "type": "object",
        "required": ["schema", name],
        "properties": { "schema": { "type": "string" }, name: { "type": "array", "items": { "$ref": format!("#/components/schemas/{of}") } } },
    })
}

fn parameters(path: &str) -> Value {
    match path {
        "/status.json" => json!([{
            "name": "after", "in": "query", "required": false,
            "description": "The number of the last file of the page before",
            "schema": { "type": "integer", "minimum": 0, "maximum": u64::MAX },
        }]),
        "/api/v1/samples" => json!([{
            "name": "span", "in": "query", "required": false,
            "schema": { "type": "string", "enum": ["hour", "day", "month"], "default": "hour" },
        }]),
        _ => json!([]),
    }
}

fn operation(path: &str, summary: &str, schema: Option<&str>) -> Value {
    let content = match schema {
        Some(name) => {
            json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } })
        }
        None => json!({ "text/plain": { "schema": { "type": "string" } } }),
    };
    let text = json!({ "text/plain": { "schema": { "type": "string" } } });
    let mut responses = json!({ "200": { "description": summary, "content": content } });
    let public = matches!(path, "/healthz" | "/livez" | "/readyz");
    if !public {
        responses["401"] = json!({ "description": "Sign in, or send a token", "content": text });
    }
    if path == "/readyz" {
        responses["503"] = json!({ "description": "Not ready, and why", "content": text });
    }
    if !parameters(path).as_array().is_none_or(Vec::is_empty) {
        responses["400"] = json!({ "description": "A parameter is not as described", "content": text });
    }
    let id: String = path.trim_matches('/').chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    json!({ "get": {
        "operationId": id, "summary": summary, "parameters": parameters(path), "responses": responses,
        "security": if public { json!([]) } else { json!([{ "token": [] }]) },
    }})
}

fn schemas() -> Value {
    let object = || json!({ "type": "object" });
    let text = json!({ "type": "string" });
    let alert = json!({
        "type": "object",
        "required": ["rule", "severity", "state", "fingerprint", "since_ms", "reason"],
        "properties": {
            "rule": text, "severity": { "type": "string", "enum": ["info", "warning", "critical"] }, "state": text,
            "fingerprint": text, "since_ms": { "type": "integer" }, "reason": { "$ref": "#/components/schemas/Said" },
        },
    });
    json!({
        "Any": {},
        "Said": { "type": "object", "properties": { "en": text, "zh": text } },
        "Status": { "type": "object", "required": ["schema", "cluster", "node", "ready"], "properties": {
            "schema": text, "cluster": text, "node": { "type": "integer" }, "ready": { "type": "boolean" },
            "more_files": { "type": "boolean" },
        }},
        "Health": object(),
        "Alert": alert,
        "Alerts": list_of("alerts", "Alert"),
        "Incident": { "type": "object", "required": ["id", "headline", "opened_ms"] },
        "Incidents": list_of("incidents", "Incident"),
        "Silence": object(),
        "Silences": list_of("silences", "Silence"),
        "Rule": { "type": "object", "required": ["id", "severity", "hold_ms", "title"] },
        "Rules": list_of("rules", "Rule"),
        "Order": { "type": "object", "required": ["at_ms", "node", "by", "what", "outcome"], "properties": {
            "at_ms": { "type": "integer" }, "node": { "type": "integer" }, "by": text, "from": text, "what": text,
            "outcome": text,
        }},
        "Audit": {
            "type": "object",
            "required": ["schema", "orders", "silent"],
            "properties": {
                "schema": text,
                "orders": { "type": "array", "items": { "$ref": "#/components/schemas/Order" } },
                "silent": { "type": "array", "items": { "type": "integer" } },
            },
        },
        "Sample": { "type": "object", "required": ["at_ms"], "properties": { "at_ms": { "type": "integer" } },
            "additionalProperties": { "type": "number" } },
        "Samples": list_of("samples", "Sample"),
        "GettableAlerts": { "type": "array", "items": { "type": "object",
            "required": ["labels", "annotations", "startsAt", "endsAt", "updatedAt", "fingerprint", "receivers", "status"] } },
    })
}

pub fn document() -> Value {
    let paths: serde_json::Map<String, Value> =
        READ.iter().map(|(path, summary, schema)| ((*path).to_string(), operation(path, summary, *schema))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trivet console",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a node's console tells programs. Off loopback a token is needed: `Authorization: Bearer NAME:TOKEN`.",
            "license": { "name": "see LICENSE" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "NAME:TOKEN" } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_api_is_in_the_document_and_every_schema_is_there() {
        let source = include_str!("api.rs");
        let mut routes: Vec<&str> =
            source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        routes.sort_unstable();
        let mut told: Vec<&str> = READ.iter().map(|r| r.0).collect();
        told.sort_unstable();
        assert_eq!(routes, told);
        let text = document().to_string();
        for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document()["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
