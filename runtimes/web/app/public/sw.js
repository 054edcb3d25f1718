/**
 * Service worker: keeps the app for offline use, and adds the headers that isolate the page, without which WebAssembly
 * has one thread. `edgedenoise compile --target web` writes the list of files and the version into it.
 */

const FILES = /*FILES*/ [];
const PREFIX = `edgedenoise-${new URL(self.registration.scope).pathname}-`;
const CACHE = `${PREFIX}/*VERSION*/`;
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
const scope = new URL(self.registration.scope);
const paths = new Set(FILES.map(({ path }) => path));

/** Return the name of one of the app's files; null for everything else, such as the interface of a server. */
function nameOf(request) {
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return null;
  if (url.searchParams.has("token")) return null; // the server exchanges it for a session
  const path = url.pathname.slice(scope.pathname.length) || "index.html";
  const page = path === "test" ? "test.html" : path;
  return paths.has(page) ? page : null;
}

function isolated(response) {
  if (response.type === "opaqueredirect") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

async function answer(request, name) {
  const cache = await caches.open(CACHE);
  const held = await cache.match(name);
  if (held !== undefined) return isolated(held);
  const fresh = await fetch(request);
  if (fresh.ok && fresh.type === "basic") await cache.put(name, fresh.clone());
  return isolated(fresh);
}

// A new version waits until no page of the old one is open, which would miss its files.
self.addEventListener("install", (event) => {
  const first = FILES.filter((file) => file.first).map((file) => new Request(file.path, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(first)));
});

self.addEventListener("activate", (event) => {
  const drop = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith(PREFIX) && name !== CACHE) await caches.delete(name);
    }
    await self.clients.claim();
  };
  event.waitUntil(drop());
});

self.addEventListener("fetch", (event) => {
  const name = nameOf(event.request);
  if (name !== null) event.respondWith(answer(event.request, name));
});
