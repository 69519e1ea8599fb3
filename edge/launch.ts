import './engine.ts';
import { launch } from '../shared/launch.ts';

launch('tidepool-agent', import.meta.dirname);
