// Requests to the server that sent this page; every path is below the token of the address.

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "The server does not answer. Start `cardiometa review` again and open its new address: what was saved is there.");
  }
  if (response.ok) return response;
  let message = `The server refused this (${response.status}).`;
  try { message = (await response.json()).error ?? message; } catch { /* not JSON */ }
  throw new Refused(response.status, message);
}

export const getJson = async (path) => (await request(path)).json();
export const getBytes = async (path) => new Uint8Array(await (await request(path)).arrayBuffer());
export const post = async (path, body = {}) =>
  (await request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
export const put = async (path, bytes) =>
  (await request(path, { method: "PUT", headers: { "Content-Type": "application/octet-stream" }, body: bytes })).json();
