/** Offline use and the home screen. */

import { element } from "./ui/elements.js";

const RELOADED = "edgedenoise-isolated";

interface InstallPrompt extends Event {
  prompt(): Promise<void>;
}

/**
 * Register the service worker; `isIdle` tells whether the page may be loaded again.
 *
 * The worker brings the headers that isolate the page, and with them threads, so the page is loaded once more when the
 * worker has taken over and nothing would be lost.
 */
export async function workOffline(isIdle: () => boolean): Promise<void> {
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    const button = element<HTMLButtonElement>("install");
    button.hidden = false;
    button.onclick = async () => {
      button.hidden = true;
      await (event as InstallPrompt).prompt();
    };
  });
  await navigator.serviceWorker.register("sw.js");
  await navigator.serviceWorker.ready;
  if (navigator.serviceWorker.controller === null) {
    await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  }
  if (!crossOriginIsolated && isIdle() && sessionStorage.getItem(RELOADED) === null) {
    sessionStorage.setItem(RELOADED, "yes");
    location.reload();
    return;
  }
  element("offline").hidden = false;
}
