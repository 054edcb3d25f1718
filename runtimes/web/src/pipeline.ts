/** Run a network over an image: cut exact tiles, run them, and hand on the pixels of each. */

import { Interrupted } from "./errors.js";
import type { Tiling } from "./manifest.js";
import type { Session } from "./session.js";
import { largestTile, planTiles, reflected, type TilePlan } from "./tiling.js";

/** What a network takes of an image: already normalized, the noise level as the last channel. */
export interface NetworkInput {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  at(channel: number, y: number, x: number): number;
}

/** Takes the three values that the network returned for a pixel. */
export type Output = (y: number, x: number, values: [number, number, number]) => void;

/** Return the plan of the tiles of an image from row `top` on, at most as large as the session accepts. */
export function sessionPlan(session: Session, height: number, width: number, tiling: Tiling, tile: number, top = 0): TilePlan {
  const side = session.largestPx === null ? tile : largestTile(session.largestPx, tiling, tile);
  return planTiles(height, width, tiling, side, top);
}

/**
 * Run a network over every tile of a plan, row by row; one tile is in memory at a time.
 *
 * @param onTile - called with the number of finished tiles, and the first row that is not finished
 * @throws Interrupted `signal` was aborted
 */
export async function runPlan(
  session: Session,
  plan: TilePlan,
  input: NetworkInput,
  output: Output,
  onTile: (done: number, nextRow: number) => void = () => undefined,
  signal?: AbortSignal,
): Promise<void> {
  const { inputHeight, inputWidth, marginPx: margin, height, width } = plan;
  const rows = reflected(plan.top - margin, plan.top + plan.rows * plan.tileHeight + margin, height);
  const columns = reflected(-margin, plan.columns * plan.tileWidth + margin, width);
  const data = new Float32Array(input.channels * inputHeight * inputWidth);
  let done = 0;
  for (let row = 0; row < plan.rows; row++) {
    const top = row * plan.tileHeight;
    for (let column = 0; column < plan.columns; column++) {
      const left = column * plan.tileWidth;
      let at = 0;
      for (let c = 0; c < input.channels; c++) {
        for (let y = 0; y < inputHeight; y++) {
          const from = rows[top + y]!;
          for (let x = 0; x < inputWidth; x++) data[at++] = input.at(c, from, columns[left + x]!);
        }
      }
      await turn();
      if (signal?.aborted) throw new Interrupted("the image was not finished, because the caller ended it");
      const answer = (await session.run({ height: inputHeight, width: inputWidth, data })).data;
      const plane = inputHeight * inputWidth;
      const ownRows = Math.min(plan.tileHeight, height - plan.top - top);
      const ownColumns = Math.min(plan.tileWidth, width - left);
      for (let y = 0; y < ownRows; y++) {
        for (let x = 0; x < ownColumns; x++) {
          const place = (margin + y) * inputWidth + margin + x;
          output(plan.top + top + y, left + x, [answer[place]!, answer[plane + place]!, answer[2 * plane + place]!]);
        }
      }
      done += 1;
      onTile(done, plan.top + top + (column === plan.columns - 1 ? ownRows : 0));
    }
  }
}

/** Let messages in: WebAssembly computes without a pause. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
