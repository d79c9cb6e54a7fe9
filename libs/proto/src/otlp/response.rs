use std::fmt::Write;

/// The answer to an export: how many records were refused, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialSuccess {
    /// Records that were refused; 0 = all were taken.
    pub rejected_records: u64,
    /// Why, for people; "" = nothing to say.
    pub message: String,
}

impl PartialSuccess {
    fn is_full(&self) -> bool {
        self.rejected_records == 0 && self.message.is_empty()
    }

    /// `ExportLogsServiceResponse` as protobuf; empty when all records were taken.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut inner = Vec::new();
        if self.rejected_records != 0 {
            put_number(1, self.rejected_records, &mut inner);
        }
        if !self.message.is_empty() {
            put_bytes(2, self.message.as_bytes(), &mut inner);
        }
        let mut out = Vec::new();
        if !self.is_full() {
            put_bytes(1, &inner, &mut out);
        }
        out
    }

    /// `ExportLogsServiceResponse` as JSON; `{}` when all records were taken.
    pub fn to_json(&self) -> String {
        if self.is_full() {
            return "{}".to_owned();
        }
        // Int64 is a string in the JSON form of protobuf.
        format!(
            r#"{{"partialSuccess":{{"rejectedLogRecords":"{}","errorMessage":{}}}}}"#,
            self.rejected_records,
            serde_json::Value::from(self.message.as_str())
        )
    }
}

/// When to try again, for clients that read `google.rpc.RetryInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryInfo {
    /// Seconds to wait.
    pub delay_seconds: u32,
}

/// `google.rpc.Status`: the body of a failed OTLP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// gRPC code.
    pub code: i32,
    /// What went wrong.
    pub message: String,
    /// Says that the same request may succeed later.
    pub retry: Option<RetryInfo>,
}

const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Status {
    /// As protobuf.
    pub fn to_protobuf(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(1, self.code as u64, &mut out);
        put_bytes(2, self.message.as_bytes(), &mut out);
        if let Some(retry) = self.retry {
            let mut duration = Vec::new();
            put_number(1, u64::from(retry.delay_seconds), &mut duration);
            let mut retry_info = Vec::new();
            put_bytes(1, &duration, &mut retry_info);
            let mut detail = Vec::new();
            put_bytes(1, RETRY_INFO_URL.as_bytes(), &mut detail);
            put_bytes(2, &retry_info, &mut detail);
            put_bytes(3, &detail, &mut out);
        }
        out
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        let message = serde_json::Value::from(self.message.as_str());
        let mut out = format!(r#"{{"code":{},"message":{message}"#, self.code);
        if let Some(retry) = self.retry {
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                r#","details":[{{"@type":"{RETRY_INFO_URL}","retryDelay":"{}s"}}]"#,
                retry.delay_seconds
            );
        }
        out.push('}');
        out
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(field: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(field << 3), out);
    put_varint(value, out);
}

fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(field << 3 | 2), out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
