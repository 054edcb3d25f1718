/**
 * edgedenoise in the browser: open a bundle, denoise images, test and measure the device.
 *
 * @example
 * import { load } from "edgedenoise";
 *
 * const denoiser = await load("edge.edge");
 * const { image } = await denoiser.denoise(context.getImageData(0, 0, 640, 480), { strength: 0.8 });
 * context.putImageData(image, 0, 0);
 * await denoiser.close();
 */

export * from "./errors.js";
export { load } from "./load.js";
export type * from "./types.js";
