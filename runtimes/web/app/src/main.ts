/** The app on a host. */

import { App } from "./app.js";
import { hosted } from "./host.js";

void new App(hosted).start();
