import './engine.ts';
import { launch } from '../shared/launch.ts';

launch('tidepool-hub', import.meta.dirname);
