//! Routes that describe themselves: what is served and the OpenAPI document are made of one table, so that neither can
//! have what the other lacks.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    routing::{MethodFilter, on},
};
use serde_json::{Value, json};

use crate::core::Core;

/// Who may call an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Access {
    /// Anybody who reaches the port.
    Anybody,
    /// Whoever has an API session.
    Session,
    /// Whoever has the API session of an administrator.
    Administrator,
}

/// Routes and their descriptions.
#[derive(Clone)]
pub(super) struct Api {
    router: Router<Arc<Core>>,
    access: Access,
    operations: Vec<Operation>,
}

#[derive(Clone)]
struct Operation {
    method: &'static str,
    path: String,
    summary: String,
    access: Access,
    /// What its body has to be, and what the data of its answer is.
    body: Option<Value>,
    data: Option<Value>,
}

impl Api {
    /// No routes yet; those that follow are for these callers.
    pub(super) fn new(access: Access) -> Self {
        Self { router: Router::new(), access, operations: Vec::new() }
    }

    /// GET of a path.
    pub(super) fn get<H, T>(self, path: &str, summary: impl Into<String>, handler: H) -> Self
    where
        H: Handler<T, Arc<Core>>,
        T: 'static,
    {
        self.add((MethodFilter::GET, "get"), path, summary.into(), handler)
    }

    /// POST to a path.
    pub(super) fn post<H, T>(self, path: &str, summary: impl Into<String>, handler: H) -> Self
    where
        H: Handler<T, Arc<Core>>,
        T: 'static,
    {
        self.add((MethodFilter::POST, "post"), path, summary.into(), handler)
    }

    /// PUT to a path.
    pub(super) fn put<H, T>(self, path: &str, summary: impl Into<String>, handler: H) -> Self
    where
        H: Handler<T, Arc<Core>>,
        T: 'static,
    {
        self.add((MethodFilter::PUT, "put"), path, summary.into(), handler)
    }

    /// PATCH of a path.
    pub(super) fn patch<H, T>(self, path: &str, summary: impl Into<String>, handler: H) -> Self
    where
        H: Handler<T, Arc<Core>>,
        T: 'static,
    {
        self.add((MethodFilter::PATCH, "patch"), path, summary.into(), handler)
    }

    /// DELETE of a path.
    pub(super) fn delete<H, T>(self, path: &str, summary: impl Into<String>, handler: H) -> Self
    where
        H: Handler<T, Arc<Core>>,
        T: 'static,
    {
        self.add((MethodFilter::DELETE, "delete"), path, summary.into(), handler)
    }

    /// The operation before takes a body like this.
    pub(super) fn takes(mut self, body: Value) -> Self {
        self.operations.last_mut().expect("an operation comes before").body = Some(body);
        self
    }

    /// The operation before answers with data like this.
    pub(super) fn answers(mut self, data: Value) -> Self {
        self.operations.last_mut().expect("an operation comes before").data = Some(data);
        self
    }

    /// Adds the routes of another.
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// Takes bodies of up to so many bytes on all these routes.
    pub(super) fn with_longest_body(mut self, bytes: usize) -> Self {
        self.router = self.router.layer(DefaultBodyLimit::max(bytes));
        self
    }

    /// The routes, with one more: `/openapi.json`, which describes them all.
    pub(super) fn into_router(self, title: &str, prefix: &str) -> Router<Arc<Core>> {
        let document = Arc::new(std::sync::OnceLock::new());
        let shared = Arc::clone(&document);
        let served =
            self.at(Access::Anybody).get("/openapi.json", "This document", move || async move {
                axum::Json(document.get().cloned().unwrap_or(Value::Null))
            });
        shared.get_or_init(|| served.document(title, prefix));
        served.router
    }

    /// Routes that follow are for these callers.
    pub(super) fn at(self, access: Access) -> Self {
        Self { access, ..self }
    }

    fn add<H, T>(
        mut self,
        (filter, method): (MethodFilter, &'static str),
        path: &str,
        summary: String,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Core>>,
        T: 'static,
    {
        self.router = self.router.route(path, on(filter, handler));
        self.operations.push(Operation {
            method,
            path: path.to_owned(),
            summary,
            access: self.access,
            body: None,
            data: None,
        });
        self
    }

    /// OpenAPI 3.1.
    fn document(&self, title: &str, prefix: &str) -> Value {
        let mut paths = BTreeMap::<&str, BTreeMap<&str, Value>>::new();
        for operation in &self.operations {
            let described = describe(operation);
            paths.entry(&operation.path).or_default().insert(operation.method, described);
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": title,
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Answers are {data, meta} or {error, meta}, as OpenZiti's are.",
            },
            "servers": [{ "url": prefix }],
            "paths": paths,
            "components": {
                "securitySchemes": {
                    "session": { "type": "apiKey", "in": "header", "name": "zt-session" },
                },
                "schemas": {
                    "Answer": envelope(&json!({ "data": {}, "meta": { "type": "object" } }), &["data", "meta"]),
                    "Refusal": envelope(&json!({
                        "error": envelope(&json!({
                            "code": { "type": "string" },
                            "message": { "type": "string" },
                            "requestId": { "type": "string" },
                        }), &["code", "message", "requestId"]),
                        "meta": { "type": "object" },
                    }), &["error"]),
                },
            },
        })
    }
}

fn envelope(properties: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

fn describe(operation: &Operation) -> Value {
    let places = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        )
    });
    let answer = |what: &str, schema: &str| {
        let mut schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        if let Some(data) = operation.data.as_ref().filter(|_| what == "Done") {
            schema =
                envelope(&json!({ "data": data, "meta": { "type": "object" } }), &["data", "meta"]);
        }
        json!({ "description": what, "content": { "application/json": { "schema": schema } } })
    };
    let mut described = json!({
        "summary": operation.summary,
        "parameters": places.collect::<Vec<_>>(),
        "responses": { "2XX": answer("Done", "Answer"), "default": answer("Refused", "Refusal") },
    });
    if operation.access != Access::Anybody {
        described["security"] = json!([{ "session": [] }]);
    }
    if operation.access == Access::Administrator {
        described["description"] = "For administrators.".into();
    }
    if matches!(operation.method, "post" | "put" | "patch") {
        let content = match &operation.body {
            Some(body) => json!({ "application/json": { "schema": body } }),
            None => json!({ "application/json": { "schema": {} }, "text/plain": { "schema": {} } }),
        };
        described["requestBody"] = json!({ "content": content });
    }
    described
}
