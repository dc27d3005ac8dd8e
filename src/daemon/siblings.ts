/** What a worker and the others tell each other: by way of the primary, which passes it on. */
import type { News, SiblingListener, Siblings } from '../ports/siblings.ts';

/** From one worker to the others; to one of them alone where it says so. */
export type Said =
  | { readonly kind: 'news'; readonly news: News }
  | { readonly kind: 'room'; readonly to: number; readonly request: number; readonly client: string }
  | { readonly kind: 'room-made'; readonly to: number; readonly request: number; readonly made: boolean };

/** What a worker hears of the others, by their numbers. */
export type Heard =
  | { readonly kind: 'came'; readonly from: number }
  | { readonly kind: 'gone'; readonly from: number }
  | { readonly kind: 'said'; readonly from: number; readonly said: Said };

/** One that answers nothing for so long, in ms, is not waited for. */
const ANSWER_MS = 5000;

/** The others, and where to put what comes of them. */
interface LinkedSiblings extends Siblings {
  hear(heard: Heard): void;
}

/** @param say - to the primary */
export function linkSiblings(say: (said: Said) => void): LinkedSiblings {
  const others = new Set<number>();
  const listeners: SiblingListener[] = [];
  const waiting = new Map<number, { readonly from: number; readonly answered: (made: boolean) => void }>();
  let requests = 0;

  const ask = (to: number, client: string): Promise<boolean> =>
    new Promise((resolve) => {
      const request = ++requests;
      const answered = (made: boolean): void => {
        clearTimeout(timer);
        waiting.delete(request);
        resolve(made);
      };
      const timer = setTimeout(answered, ANSWER_MS, false);
      timer.unref();
      waiting.set(request, { from: to, answered });
      say({ kind: 'room', to, request, client });
    });

  const heard = (from: number, said: Said): void => {
    switch (said.kind) {
      case 'news':
        for (const listener of listeners) listener.heard(from, said.news);
        return;
      case 'room':
        void Promise.allSettled(listeners.map((listener) => listener.makeRoom(said.client))).then((outcomes) => {
          const made = outcomes.some((one) => one.status === 'fulfilled' && one.value);
          say({ kind: 'room-made', to: from, request: said.request, made });
        });
        return;
      case 'room-made':
        waiting.get(said.request)?.answered(said.made);
    }
  };

  return {
    tell: (news) => {
      if (others.size > 0) say({ kind: 'news', news });
    },
    listen: (listener) => {
      listeners.push(listener);
    },
    makeRoom: async (client) => {
      for (const to of [...others]) if (others.has(to) && (await ask(to, client))) return true;
      return false;
    },
    hear: (message) => {
      const { from } = message;
      switch (message.kind) {
        case 'came':
          others.add(from);
          for (const listener of listeners) listener.came();
          return;
        case 'gone':
          others.delete(from);
          for (const listener of listeners) listener.gone(from);
          for (const one of [...waiting.values()]) if (one.from === from) one.answered(false);
          return;
        case 'said':
          heard(from, message.said);
      }
    },
  };
}
